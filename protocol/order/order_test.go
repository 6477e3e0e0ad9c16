package order

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// What slices gives is what is expected.
func TestAsSlicesDoes(t *testing.T) {
	type pair struct{ a, b int }
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOf(rapid.Custom(func(t *rapid.T) pair {
			return pair{rapid.IntRange(0, 5).Draw(t, "a"), rapid.Int().Draw(t, "b")}
		})).Draw(t, "list")
		by := func(x, y pair) int { return cmp.Compare(x.a, y.a) }
		ours, theirs := slices.Clone(list), slices.Clone(list)
		Stable(ours, by)
		slices.SortStableFunc(theirs, by)
		if !slices.Equal(ours, theirs) {
			t.Fatalf("%v, want %v", ours, theirs)
		}
		ours = slices.Clone(list)
		By(ours, by)
		if !slices.IsSortedFunc(ours, by) {
			t.Fatalf("%v is not sorted", ours)
		}
		whole := func(x, y pair) int { return cmp.Or(cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b)) }
		slices.SortFunc(ours, whole)
		slices.SortFunc(list, whole)
		if !slices.Equal(ours, list) {
			t.Fatalf("%v, want what was there: %v", ours, list)
		}
	})
}
