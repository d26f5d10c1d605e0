package bootstrap

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// Progress says how far a build is.
type Progress struct {
	Step    string  // what is being done, for people: "Downloading packages"
	Detail  string  // what exactly, may be empty: "12 of 266: libgtk-3-0"
	Percent float64 // of the whole build's time, 0 to 100; it never falls
}

// stage is a part of the build in the order of mmdebstrap's output. Its share of the time was measured (on two cores
// of a virtual machine, 50 seconds in all; downloads, which had a near mirror, are given more than they took); within a stage the packages are counted.
type stage struct {
	step  string
	share float64
}

const (
	waiting = iota
	lists
	fetchBase
	extractBase
	installBase
	fetch
	unpack
	configure
	apply
	pack
	done
)

var stages = [...]stage{
	waiting:     {"Waiting for another build", 0},
	lists:       {"Reading package lists", 4},
	fetchBase:   {"Downloading the base system", 3},
	extractBase: {"Unpacking the base system", 12},
	installBase: {"Installing the base system", 9},
	fetch:       {"Downloading packages", 16},
	unpack:      {"Unpacking packages", 26},
	configure:   {"Configuring packages", 14},
	apply:       {"Applying the recipe", 6},
	pack:        {"Packing the image", 10},
	done:        {"Done", 0},
}

// tracker turns mmdebstrap's verbose output, and the size of the tar it writes at the same time, into Progress.
type tracker struct {
	report func(Progress) // may be nil

	mu      sync.Mutex // of all below, and of calls of report
	stage   int
	total   int // packages in this run of apt; 0 when not known
	seen    int // of the stage's lines
	percent float64
}

var (
	gotLine   = regexp.MustCompile(`^Get:\d+ \S+ \S+ \S+ (\S+)`)
	countLine = regexp.MustCompile(`^\d+ upgraded, (\d+) newly installed`)
)

// line takes one line of mmdebstrap's output.
func (t *tracker) line(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case strings.HasPrefix(s, "I: running apt-get update"):
		t.enter(lists)
	case strings.HasPrefix(s, "I: downloading packages with apt"):
		t.enter(fetchBase)
	case strings.HasPrefix(s, "I: extracting archives"):
		t.enter(extractBase)
	case strings.HasPrefix(s, "I: installing essential packages"):
		t.enter(installBase)
	case strings.HasPrefix(s, "I: installing remaining packages"):
		t.enter(fetch)
	case strings.HasPrefix(s, "I: running --customize-hook"), strings.HasPrefix(s, "I: running special hook") && t.stage >= fetch:
		t.enter(apply)
	case strings.HasPrefix(s, "I: creating tarball"):
		t.enter(pack)
	}
	if m := countLine.FindStringSubmatch(s); m != nil {
		t.total, _ = strconv.Atoi(m[1])
	}
	switch {
	case t.stage == fetchBase || t.stage == fetch:
		if m := gotLine.FindStringSubmatch(s); m != nil {
			t.count(m[1], 1)
			return
		}
		// Only the second run of apt tells its stages apart: dpkg begins when all is there.
		if t.stage == fetch && strings.HasPrefix(s, "Unpacking ") {
			t.enter(unpack)
			t.count(word(s, 1), 1)
		}
	case t.stage == installBase:
		// The base system's packages pass by twice, being unpacked and being configured.
		if strings.HasPrefix(s, "Unpacking ") {
			t.count(word(s, 1), 2)
		} else if strings.HasPrefix(s, "Setting up ") {
			t.count(word(s, 2), 2)
		}
	case t.stage == unpack && strings.HasPrefix(s, "Unpacking "):
		t.count(word(s, 1), 1)
	case (t.stage == unpack || t.stage == configure) && strings.HasPrefix(s, "Setting up "):
		// A few packages are configured between others' unpacking; the stage changes with the last unpacked.
		if t.stage == unpack && t.seen >= t.total {
			t.enter(configure)
		}
		if t.stage == configure {
			t.count(word(s, 2), 1)
		}
	}
}

// packed reports the size of the tar so far, and what it is expected to become.
func (t *tracker) packed(written, expected int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stage == pack && expected > 0 {
		t.send(fmt.Sprintf("%d MB", written/1e6), float64(written)/float64(expected))
	}
}

// begin enters a stage that mmdebstrap knows nothing of.
func (t *tracker) begin(stage int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.enter(stage)
}

func (t *tracker) enter(stage int) {
	if stage < t.stage {
		return // progress does not go back
	}
	t.stage, t.seen = stage, 0
	t.send("", 0)
}

// count notes that one more package was seen, of which each passes by so many times in this stage.
func (t *tracker) count(name string, passes int) {
	t.seen++
	if t.total == 0 {
		t.send(name, 0)
		return
	}
	t.send(fmt.Sprintf("%d of %d: %s", min((t.seen+passes-1)/passes, t.total), t.total, name),
		float64(t.seen)/float64(t.total*passes))
}

func (t *tracker) send(detail string, fraction float64) {
	if t.report == nil {
		return
	}
	percent := 0.0
	for _, s := range stages[:t.stage] {
		percent += s.share
	}
	percent += stages[t.stage].share * max(0, min(1, fraction))
	t.percent = max(t.percent, min(100, percent))
	t.report(Progress{Step: stages[t.stage].step, Detail: detail, Percent: t.percent})
}

// word returns the nth word of s without its architecture, or "".
func word(s string, n int) string {
	words := strings.Fields(s)
	if n >= len(words) {
		return ""
	}
	name, _, _ := strings.Cut(words[n], ":")
	return name
}

// lines is a writer that hands on each line it gets, cut to maxLine bytes and free of control characters, and keeps the last
// few for an error message. It never fails and never holds more than these.
type lines struct {
	each func(string)
	part []byte
	tail []string
}

const (
	maxLine = 400
	maxTail = 12
)

func (l *lines) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' || b == '\r' {
			l.flush()
		} else if len(l.part) < maxLine {
			l.part = append(l.part, b)
		}
	}
	return len(p), nil
}

func (l *lines) flush() {
	s := strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(l.part), "�")))
	l.part = l.part[:0]
	if s == "" {
		return
	}
	if len(l.tail) == maxTail {
		l.tail = append(l.tail[:0], l.tail[1:]...)
	}
	l.tail = append(l.tail, s)
	l.each(s)
}
