package reconcile

import (
	"context"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/store"
)

// passLetter is one pass over a letter. A letter that was handed over and whose removal was lost is written again, with another secret: the newest is the one that
// is good.
func (e *Engine) passLetter(ctx context.Context, head appstream.Meta) error {
	var l appstream.Letter
	if err := e.Store.View(ctx, func(tx store.Tx) error { return tx.Find(head.ID, &l) }); err != nil {
		return err
	}
	l.Excuse(time.Since(head.Due), time.Now())
	return finish(ctx, e, l, func() (appstream.Decision[appstream.Letter], error) {
		return appstream.PlanLetter(l, time.Now().UTC()), nil
	})
}

func (e *Engine) deliver(ctx context.Context, l appstream.Letter) error {
	if e.Post == nil {
		return &compute.Fault{Message: "no mail server is configured any more; see [smtp] in the settings"}
	}
	return e.Post.Deliver(ctx, l)
}
