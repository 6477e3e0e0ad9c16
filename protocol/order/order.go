// Package order sorts lists as package slices does, in less room: SortFunc of slices is
// compiled anew for each type of element, five kilobytes a time, and the agent has dozens
// of them. The lists are short.
package order

import "sort"

// By sorts a list by a comparison of two of its elements, as slices.SortFunc does.
func By[S ~[]E, E any](list S, compare func(a, b E) int) {
	sort.Slice(list, func(i, j int) bool { return compare(list[i], list[j]) < 0 })
}

// Stable is By for a list in which equal elements keep their order.
func Stable[S ~[]E, E any](list S, compare func(a, b E) int) {
	sort.SliceStable(list, func(i, j int) bool { return compare(list[i], list[j]) < 0 })
}
