package agent

import (
	"bufio"
	"context"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/thesyncim/gopus"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// things runs a shell's command as the person, with what programs need to
// print and to play.
func (p *person) things(command string) string {
	p.tb.Helper()
	return p.must(`eval "$(tr '\0' '\n' </proc/$(pgrep -n openbox)/environ | grep -E '^(CUPS_SERVER|PRINTER|PULSE_[A-Z_]*|PIPEWIRE_[A-Z_]*)=' | sed 's/^/export /')"; ` + command)
}

// TestSessionSound plays a tone and listens to it.
func TestSessionSound(t *testing.T) {
	i := newEngine(t).startFor(agentapi.RoleFleet, 2)
	ctx := t.Context()
	i.ready()
	p := i.begin(agentapi.Session{ID: "anna", UserID: "anna", Stack: "s", AccessMode: "custom"})
	if list := p.must("ps -e -o comm="); strings.Contains(list, "pipewire") {
		t.Errorf("a sound server runs and nothing plays: %s", list)
	}

	// The tone gets there as any file does.
	const seconds, amplitude = 3, .5
	var tone []byte
	for n := range seconds * agentapi.SoundRate {
		v := uint16(int16(amplitude * 32767 * math.Sin(2*math.Pi*440*float64(n)/agentapi.SoundRate)))
		tone = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(tone, v), v)
	}
	if err := upload(ctx, p.SessionClient, "tone.raw", string(tone)); err != nil {
		t.Fatal(err)
	}
	listen, stop := context.WithCancel(ctx)
	defer stop()
	body, err := p.Sound(listen)
	if err != nil {
		t.Fatal(err)
	}
	packets := make(chan []byte, 1000)
	go func() {
		defer close(packets)
		r := agentapi.NewPacketReader(bufio.NewReader(body))
		for {
			packet, err := r.Next()
			if err != nil {
				return
			}
			packets <- append([]byte(nil), packet...)
		}
	}()

	d, err := gopus.NewDecoder(gopus.DefaultDecoderConfig(agentapi.SoundRate, 2))
	if err != nil {
		t.Fatal(err)
	}
	// The tone is played again and again until it was heard: the recorder may
	// begin late, and a sound server that was just killed may still take a
	// program and keep it waiting until it is gone.
	hear := func(what string) {
		t.Helper()
		began := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.things("rm -f heard; until [ -e heard ]; do paplay --raw --rate=48000 --channels=2 --format=s16le MyFiles/tone.raw || sleep .1; done")
		}()
		loud, sum := 0, 0.0
		pcm := make([]float32, 960*2)
		for loud < 100 { // two seconds
			select {
			case packet, ok := <-packets:
				if !ok {
					t.Fatalf("%s: the sound ended", what)
				}
				if n, err := d.Decode(packet, pcm); err != nil || n != 960 {
					t.Fatalf("%s: a packet of %d samples, %v", what, n, err)
				}
				energy := 0.0
				for _, v := range pcm {
					energy += float64(v) * float64(v) / float64(len(pcm))
				}
				if energy < .01 {
					continue
				}
				if loud++; loud == 1 {
					t.Logf("%s: heard after %v", what, time.Since(began))
				}
				if loud > 10 {
					sum += energy
				}
			case <-time.After(patience):
				t.Fatalf("%s: %d packets are heard", what, loud)
			}
		}
		if got, want := math.Sqrt(sum/90), amplitude/math.Sqrt2; math.Abs(got-want) > .02 {
			t.Errorf("%s is %.3f loud, want %.3f", what, got, want)
		}
		p.must("touch heard")
		<-done
		for { // the rest
			select {
			case <-packets:
				continue
			case <-time.After(500 * time.Millisecond):
			}
			break
		}
	}
	hear("a program for PulseAudio")
	hear("and again")
	p.must("pkill -KILL pipewire")
	hear("after the sound server was killed")

	// To listen costs nothing while nothing plays: no process of the sound
	// gets the processor in a second.
	switches := func() int {
		out := p.must(`for n in pipewire wireplumber parec; do pgrep -x $n >/dev/null || { echo $n is missing; exit 1; }; for q in $(pgrep -x $n); do cat /proc/$q/task/*/status; done; done | awk '/ctxt_switches/{n+=$2}END{print n}'`)
		n, err := strconv.Atoi(out)
		if err != nil {
			t.Fatal(out)
		}
		return n
	}
	eventually(t, func() bool {
		before := switches()
		p.must("sleep 1")
		return switches()-before <= 10
	})
	t.Log("memory in KiB, its share of what is shared:", p.must("ps -o pss=,rss=,comm= -C pipewire,wireplumber,parec"))

	stop()
	eventually(t, func() bool { return !strings.Contains(p.must("ps -e -o comm="), "parec") })
	if body, err = p.Sound(ctx); err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := p.End(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := agentapi.NewPacketReader(body).Next(); err == nil {
		t.Error("the sound goes on after the session")
	}
	if list := i.do("exec", i.name, "ps", "-e", "-o", "comm="); strings.Contains(list, "pipewire") || strings.Contains(list, "wireplumber") || strings.Contains(list, "parec") {
		t.Errorf("still running: %s", list)
	}
}

// TestSessionPrinter prints as programs do.
func TestSessionPrinter(t *testing.T) {
	i := newEngine(t).startFor(agentapi.RoleFleet, 2)
	ctx := t.Context()
	i.ready()
	anna := i.begin(agentapi.Session{ID: "anna", UserID: "anna", Stack: "s", AccessMode: "custom", Print: true})
	bert := i.begin(agentapi.Session{ID: "bert", UserID: "bert", Stack: "s", AccessMode: "custom", Print: true})
	const document = "%PDF-1.7\n%%EOF\n"
	if err := upload(ctx, anna.SessionClient, "letter.pdf", document); err != nil {
		t.Fatal(err)
	}
	if out := anna.things("lpstat -d; lpstat -p"); !strings.Contains(out, "system default destination: Oriel") || !strings.Contains(out, "printer Oriel is idle") {
		t.Error(out)
	}
	anna.things("lp -t 'To whom it may concern' MyFiles/letter.pdf")
	list, err := anna.Prints(ctx, "", 0)
	if err != nil || len(list.Prints) != 1 || list.Prints[0].Title != "To whom it may concern" {
		t.Fatalf("%+v, %v", list, err)
	}
	body, size, err := anna.OpenPrint(ctx, list.Prints[0].ID)
	if got := download(t, body, size, err); got != document {
		t.Errorf("%q", got)
	}
	if out := anna.things("echo text | lp 2>&1 || :"); !strings.Contains(out, "the printer takes PDF only") {
		t.Error(out)
	}
	if list, err := bert.Prints(ctx, "", 0); err != nil || len(list.Prints) != 0 {
		t.Errorf("another's prints: %+v, %v", list, err)
	}
	socket := anna.things("echo $CUPS_SERVER")
	if out, ok := bert.run("CUPS_SERVER=" + socket + " lp MyFiles/.. 2>&1; CUPS_SERVER=" + socket + " lpstat -p 2>&1"); ok && strings.Contains(out, "Oriel") {
		t.Errorf("one person reached another's printer: %s", out)
	}
	if out, ok := bert.run("ls $(dirname " + socket + ")"); ok {
		t.Errorf("one person sees another's printer: %s", out)
	}
}
