package differential

import (
	"encoding/json"
	"errors"
	"sync"
	"time"
)

// reader gives its opinion, of the type O, on bodies that come with what T has.
type reader[T, O any] struct {
	name string
	read func([]T) ([]O, error)
	// share is how many bodies there are for each that it gets; 0 means that it gets
	// all.
	share int
}

// some gives a reader that is slow every other body only.
func some[T, O any](r reader[T, O]) reader[T, O] {
	r.share = 2
	return r
}

// ofProcess is a reader in a process of its own.
func ofProcess[T, O any](p *process, ask func(T) question) reader[T, O] {
	return reader[T, O]{name: p.name, read: func(all []T) ([]O, error) {
		questions := make([]question, len(all))
		for i := range all {
			questions[i] = ask(all[i])
		}
		opinions := make([]O, len(all))
		err := p.ask(questions, func(i int, text []byte) error { return json.Unmarshal(text, &opinions[i]) })
		return opinions, err
	}}
}

// inGo is a reader that is a function. Several bodies are read at a time, because some are
// waited for.
func inGo[T, O any](name string, read func(T) O) reader[T, O] {
	return reader[T, O]{name: name, read: func(all []T) ([]O, error) {
		opinions := make([]O, len(all))
		var wg sync.WaitGroup
		several := make(chan struct{}, 8)
		for i := range all {
			several <- struct{}{}
			wg.Go(func() {
				opinions[i] = read(all[i])
				<-several
			})
		}
		wg.Wait()
		return opinions, nil
	}}
}

// opinions are those of all readers, by reader and body. They have none on a body that they
// were not given.
func opinions[T, O any](readers []reader[T, O], all []T) ([][]O, error) {
	given, errs := make([][]O, len(readers)), make([]error, len(readers))
	var wg sync.WaitGroup
	for i, r := range readers {
		wg.Go(func() {
			share := max(r.share, 1)
			var part []T
			for n := 0; n < len(all); n += share {
				part = append(part, all[n])
			}
			got, err := r.read(part)
			given[i], errs[i] = make([]O, len(all)), err
			for n := range got {
				given[i][n*share] = got[n]
			}
		})
	}
	wg.Wait()
	return given, errors.Join(errs...)
}

// shrink takes away from a body what can go while it is still wrong, as far as that can be
// found out soon.
func shrink(body []byte, wrong func([]byte) bool) []byte {
	begun := time.Now()
	for size := len(body) / 2; size > 0; {
		smaller := false
		for i := 0; i+size <= len(body) && time.Since(begun) < 10*time.Second; {
			shorter := append(append([]byte{}, body[:i]...), body[i+size:]...)
			if wrong(shorter) {
				body, smaller = shorter, true
			} else {
				i += size
			}
		}
		if !smaller || size > len(body) {
			size = min(size/2, len(body))
		}
	}
	return body
}
