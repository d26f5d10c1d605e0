package reconcile

import (
	"context"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/store"
)

// letterGrace is how long a mail that is on its way has to be handed over when the server stops. One that is cut off is sent again.
const letterGrace = 10 * time.Second

// passLetter is one pass over a letter. A letter that was handed over and whose removal was lost is written again, with another secret: the newest is the one that
// is good.
func (e *Engine) passLetter(ctx context.Context, head appstream.Meta) error {
	var l appstream.Letter
	if err := e.Store.View(ctx, func(tx store.Tx) error { return tx.Find(head.ID, &l) }); err != nil {
		return err
	}
	ctx, cancel := linger(ctx, letterGrace)
	defer cancel()
	l.Excuse(time.Since(head.Due), time.Now())
	return finish(ctx, e, l, func() (appstream.Decision[appstream.Letter], error) {
		return appstream.PlanLetter(l, time.Now().UTC()), nil
	})
}

// linger gives a context that ends as long after another.
func linger(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(after, func() { cancel(context.Cause(ctx)) })
	})
	return longer, func() {
		stop()
		cancel(nil)
	}
}

// deliver hands a letter to the mail server, which may take its time.
func (e *Engine) deliver(ctx context.Context, l appstream.Letter) (err error) {
	if e.Post == nil {
		return &compute.Fault{Message: "no mail server is configured any more; see [smtp] in the settings"}
	}
	e.aside(func() { err = e.Post.Deliver(ctx, l) })
	return err
}
