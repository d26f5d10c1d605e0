package gateway

import (
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
)

// StreamStat is how the stream of a session does. The counts are those since it began.
type StreamStat struct {
	Session   *appstream.Session // as it was when the stream began; not to be changed
	Since     time.Time          // when the stream began
	RoundTrip time.Duration      // to the browser and back, measured every 10 seconds; 0 when it is not known yet
	Frames    int64              // updates of the picture that were sent
	Sent      int64              // bytes of RFB to the browser
	Received  int64              // bytes of RFB from the browser
}

// Streams tells of the sessions' streams that are open, for metrics: nothing is done for them while nobody asks.
func (g *Gateway) Streams() []StreamStat {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]StreamStat, 0, len(g.current))
	for _, s := range g.current {
		list = append(list, StreamStat{Session: s.session, Since: s.opened, RoundTrip: time.Duration(s.roundTrip.Load()),
			Frames: s.filter.Frames(), Sent: s.sent.Load(), Received: s.received.Load()})
	}
	return list
}
