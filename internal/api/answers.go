package api

import "sync"

// answers keeps the encoded answers of operations that only look, until the store changes. Whoever waits for a state asks the
// same question again and again, and mostly nothing has happened in between; then the answer need not be made once more. Signature,
// limits and policy are checked all the same.
type answers struct {
	mu         sync.Mutex
	generation uint64
	kept       map[question][]byte
	size       int
}

// question is all that an answer depends on, beside the store.
type question struct {
	op                       *operation
	cbor                     bool
	account, region, baseURL string
	body                     string
}

// Bounds of what is kept, in bytes.
const (
	maxQuestion = 2 << 10
	maxAnswer   = 256 << 10
	maxAnswers  = 8 << 20
)

// get appends the answer of a generation to buf, if there is one.
func (a *answers) get(generation uint64, q question, buf []byte) ([]byte, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer, ok := a.kept[q]
	if !ok || a.generation != generation {
		return buf, false
	}
	return append(buf, answer...), true
}

// put keeps an answer that was made of a generation, or of a later one: then it will not be found.
func (a *answers) put(generation uint64, q question, answer []byte) {
	if len(q.body) > maxQuestion || len(answer) > maxAnswer {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.generation > generation {
		return
	}
	size := len(q.body) + len(answer)
	if a.generation < generation || a.size+size > maxAnswers || a.kept == nil {
		a.generation, a.kept, a.size = generation, map[question][]byte{}, 0
	}
	a.kept[q] = append([]byte(nil), answer...)
	a.size += size
}
