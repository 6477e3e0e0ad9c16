package spool

const childDir = "LANEPOST_SPOOL_CHILD"

func child(string) {}
