package gateway

import "time"

// When a person is warned of an end.
const (
	endingWarning = 5 * time.Minute // before the session's longest duration is over
	idleWarning   = time.Minute     // before the stream ends because nothing is typed or moved; at most half of that time
)

// A clock tells what the passing of time means for the stream of a session. It reads no time itself, and needs to be asked
// again only when it says so or when there was input while idling.
type clock struct {
	ending bool // the person has been told that the session ends
	idling bool // the person has been told that the stream ends
}

// tell gives the notices that are due at now, the end of the stream if it is due, and when to ask again. maxEnd is when the
// session ends, idle how long the stream may be without input, and input when there last was some; zero: it does not count (yet).
func (c *clock) tell(now, maxEnd time.Time, idle time.Duration, input time.Time) (say []streamNotice, end *streamEnd, next time.Time) {
	next = never
	if !maxEnd.IsZero() {
		switch warn := maxEnd.Add(-endingWarning); {
		case now.Before(warn):
			next, c.ending = warn, false
		case !c.ending:
			c.ending = true
			say = append(say, streamNotice{Notice: "ending", In: secondsUntil(now, maxEnd)})
		}
	}
	if idle <= 0 || input.IsZero() {
		return say, nil, next
	}
	over := input.Add(idle)
	warn := over.Add(-min(idleWarning, idle/2))
	switch {
	case !now.Before(over):
		return say, endIdle, next
	case !now.Before(warn):
		if !c.idling {
			c.idling = true
			say = append(say, streamNotice{Notice: "idle", In: secondsUntil(now, over)})
		}
		warn = over
	case c.idling:
		c.idling = false
		say = append(say, streamNotice{Notice: "active"})
	}
	if warn.Before(next) {
		next = warn
	}
	return say, nil, next
}

// never is later than all that happens.
var never = time.Unix(1<<40, 0)

// secondsUntil rounds up: who is promised a second has it.
func secondsUntil(now, then time.Time) int {
	return max(1, int((then.Sub(now)+time.Second-1)/time.Second))
}

// streamNotice is a text message to the viewer.
type streamNotice struct {
	Notice    string `json:"notice"`             // ending, idle, active or clipboard
	In        int    `json:"in,omitzero"`        // seconds: ending, idle
	Direction string `json:"direction,omitzero"` // clipboard: in or out, as seen from the session
	Reason    string `json:"reason,omitzero"`    // clipboard: disabled or length
	Max       int    `json:"max,omitzero"`       // characters, when the reason is length
}
