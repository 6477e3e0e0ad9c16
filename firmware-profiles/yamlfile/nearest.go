package yamlfile

// maxWord bounds the words that Nearest looks at.
const maxWord = 60

// Nearest is the word of the list that a typing error may have made of word, or
// nothing.
func Nearest(word string, list []string) string {
	if len(word) > maxWord {
		return ""
	}
	best, least := "", 3
	for _, l := range list {
		if n := edits(word, l); n < least && 2*n <= len(l) {
			best, least = l, n
		}
	}
	return best
}

// edits is the number of letters to add, take out, change or swap.
func edits(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	var older []int
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		older, before, row = before, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(before[j]+cost, before[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
