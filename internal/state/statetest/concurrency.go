package statetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// testIncrements: of changes at the same time none is lost.
func testIncrements(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	mustApply(t, s, state.Create("n", []byte("0")))
	const workers, each = 8, 20
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for range each {
				for {
					r, err := state.Get(ctx, s, "n")
					if err != nil {
						t.Error(err)
						return
					}
					n, _ := strconv.Atoi(string(r.Value))
					if _, err = s.Apply(ctx, state.Replace(r, []byte(strconv.Itoa(n+1)))); err == nil {
						break
					}
					if !errors.Is(err, state.ErrConflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	running.Wait()
	if got := string(mustGet(t, s, "n").Value); got != strconv.Itoa(workers*each) {
		t.Errorf("%s, and there were %d increments", got, workers*each)
	}
}

// testUnique: of those who want a name at the same time one gets it.
func testUnique(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	for round := range 10 {
		var running sync.WaitGroup
		var mu sync.Mutex
		var winners []int
		for worker := range 8 {
			running.Go(func() {
				_, err := s.Apply(ctx,
					state.Create(fmt.Sprintf("name/%d", round), []byte(strconv.Itoa(worker))),
					state.Create(fmt.Sprintf("thing/%d/%d", round, worker), nil))
				if err == nil {
					mu.Lock()
					winners = append(winners, worker)
					mu.Unlock()
				} else if !errors.Is(err, state.ErrConflict) {
					t.Error(err)
				}
			})
		}
		running.Wait()
		if things := keys(t, s, fmt.Sprintf("thing/%d/", round)); len(winners) != 1 || len(things) != 1 ||
			things[0] != fmt.Sprintf("thing/%d/%d", round, winners[0]) {
			t.Fatalf("winners %d, things %q", winners, things)
		}
	}
}

// testRandomRecords does the same to a store and to a map, and compares.
func testRandomRecords(t *testing.T, maker Maker) {
	s, ctx := maker.store(t), background(t)
	seed := rand.Uint64()                    // #nosec G404 -- a test
	random := rand.New(rand.NewPCG(seed, 0)) // #nosec G404 -- a test
	model := map[string]state.Record{}
	var past []state.Record
	key := func() string { return fmt.Sprintf("%c/%d", 'a'+random.IntN(3), random.IntN(6)) }
	for step := range 600 {
		var changes []state.Change
		conflict := false
		used := map[string]bool{}
		for range 1 + random.IntN(4) {
			k := key()
			if used[k] {
				continue
			}
			used[k] = true
			value := []byte(strconv.Itoa(random.IntN(1000)))
			r, there := model[k]
			if !there {
				r = state.Record{Key: k}
			}
			if random.IntN(4) == 0 && len(past) > 0 {
				if old := past[random.IntN(len(past))]; old.Key == k {
					r = old
				}
			}
			var c state.Change
			switch random.IntN(6) {
			case 0:
				c = state.Create(k, value)
			case 1:
				c = state.Replace(r, value)
			case 2:
				c = state.Overwrite(k, value)
			case 3:
				c = state.Delete(r)
			case 4:
				c = state.Remove(k)
			case 5:
				c = state.Require(r)
			}
			changes = append(changes, c)
			conflict = conflict || c.If != state.Any && c.If != model[k].Version
		}
		version, err := s.Apply(ctx, changes...)
		if conflict != errors.Is(err, state.ErrConflict) || !conflict && err != nil {
			t.Fatalf("seed %d, step %d: %v, want a conflict: %v", seed, step, err, conflict)
		}
		if err == nil {
			for _, c := range changes {
				switch c.Op {
				case state.OpPut:
					model[c.Key] = state.Record{Key: c.Key, Value: c.Value, Version: version}
					past = append(past, model[c.Key])
				case state.OpDelete:
					delete(model, c.Key)
				case state.OpCheck:
				}
			}
		}
		if step%20 != 0 {
			continue
		}
		got := map[string]state.Record{}
		for r, err := range state.All(ctx, s, "") {
			if err != nil {
				t.Fatal(err)
			}
			got[r.Key] = r
		}
		if len(got) != len(model) {
			t.Fatalf("seed %d, step %d: %d records, want %d", seed, step, len(got), len(model))
		}
		for k, want := range model {
			if r := got[k]; r.Version != want.Version || !bytes.Equal(r.Value, want.Value) {
				t.Fatalf("seed %d, step %d: %s is %+v, want %+v", seed, step, k, r, want)
			}
		}
	}
}
