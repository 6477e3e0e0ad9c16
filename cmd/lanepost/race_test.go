//go:build race

package main

// underRace: the race detector makes everything several times slower.
const underRace = true
