package config

import "strings"

// closest is the name that was probably meant by word; "": none is near.
func closest(word string, names []string) string {
	word = plain(word)
	best, least := "", max(1, len(word)/3)+1
	for _, name := range names {
		d := distance(word, plain(name))
		if d == 0 || len(word) > 2 && (strings.HasPrefix(plain(name), word) || strings.HasPrefix(word, plain(name))) && least > 1 {
			d = min(d, 1)
		}
		if d < least {
			best, least = name, d
		}
	}
	return best
}

func plain(s string) string {
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s))
}

// distance counts the insertions, deletions, changes and swaps of neighbours
// that make b of a.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 { // nobody mistypes so much
		return 64
	}
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
