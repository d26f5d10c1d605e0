package agent

import (
	"bufio"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// linesPerMinute bounds what goes into the log: a desktop may write as much as
// it likes, but the host's log may not grow as much.
const linesPerMinute = 100

// output is a pipe for a program's standard output and error. Its lines go to
// the log, and the last one is kept: it usually says why the program died.
type output struct {
	write *os.File // for the program
	drain *drain
	mu    sync.Mutex
	last  string
}

// newOutput starts to read a new pipe; it ends when the last writer has.
func newOutput(log *slog.Logger) (*output, error) {
	o := &output{}
	var err error
	o.drain, o.write, err = newDrain(func(r io.Reader) { o.read(r, log) })
	return o, err
}

func (o *output) read(r io.Reader, log *slog.Logger) {
	minute, lines := time.Now(), 0
	for buf := bufio.NewReaderSize(r, 1<<10); ; {
		line, err := buf.ReadSlice('\n') // a longer line comes in parts
		for len(line) > 0 && line[len(line)-1] <= ' ' {
			line = line[:len(line)-1]
		}
		if len(line) > 0 {
			o.mu.Lock()
			o.last = strings.ToValidUTF8(string(line), "\uFFFD") // it goes into JSON
			o.mu.Unlock()
			if now := time.Now(); now.Sub(minute) >= time.Minute {
				if lines > linesPerMinute {
					log.Info("output left out", "lines", lines-linesPerMinute)
				}
				minute, lines = now, 0
			}
			if lines++; lines <= linesPerMinute {
				log.Info("output", "line", string(line))
			}
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

// lastWords is the last line of a program that has ended.
func (o *output) lastWords() string {
	o.write.Close()
	o.drain.settle()
	return o.lastLine()
}

func (o *output) lastLine() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}
