package serve

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

func TestEveryProcessHasItsNumber(t *testing.T) {
	path := filepath.Join(t.TempDir(), "generation")
	if n := Generation(path); n != 0 {
		t.Errorf("before the first: %d", n)
	}
	got := make([]int, 50)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			n, err := NextGeneration(path)
			if err != nil {
				t.Error(err)
			}
			got[i] = n
		})
	}
	wg.Wait()
	slices.Sort(got)
	for i, n := range got {
		if n != i+1 {
			t.Fatalf("numbers %v", got)
		}
	}
	if n := Generation(path); n != len(got) {
		t.Errorf("afterwards: %d", n)
	}
}
