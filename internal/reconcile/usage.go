package reconcile

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/store"
)

// passUsageReports is one pass over the subscription of an account and region.
func (e *Engine) passUsageReports(ctx context.Context, head appstream.Meta) error {
	var s appstream.ReportSnapshot
	err := e.Store.View(ctx, func(tx store.Tx) error {
		if err := tx.Find(head.ID, &s.Subscription); err != nil {
			return err
		}
		ended := store.Query{Noun: appstream.NounSession, Region: head.Region, Accounts: []string{head.Account}, States: []string{appstream.SessionExpired}}
		err := tx.Scan(ended, func(_ appstream.Meta, decode func(appstream.Record) error) error {
			var session appstream.Session
			err := decode(&session)
			if session.ToRecord(&s.Subscription) && (s.Unrecorded.IsZero() || session.Ended.Before(s.Unrecorded)) {
				s.Unrecorded = session.Ended
			}
			return err
		})
		if err != nil {
			return err
		}
		// Names are days and IDs with a slash between: "0" is what comes behind all those of a day.
		return tx.Scan(store.Query{Noun: appstream.NounUsageRecord, Region: head.Region, Accounts: []string{head.Account}, Limit: 1,
			After: store.Position{Name: s.Subscription.Reported + "0"}},
			func(record appstream.Meta, _ func(appstream.Record) error) error {
				s.Next = (&appstream.UsageRecord{Meta: record}).Day()
				return nil
			})
	})
	if err != nil {
		return err
	}
	return finish(ctx, e, s.Subscription, func() (appstream.Decision[appstream.UsageReportSubscription], error) {
		return appstream.PlanUsageReports(s, time.Now().UTC()), nil
	})
}

// report writes the reports of a day. They are the same each time: nothing is recorded of a day that is over.
func (e *Engine) report(ctx context.Context, a appstream.EnsureReported) error {
	if e.Objects == nil {
		return &compute.Fault{Code: string(types.UsageReportExecutionErrorCodeResourceNotFound), Message: "this server has no place for usage reports"}
	}
	var records []appstream.UsageRecord
	err := e.Store.View(ctx, func(tx store.Tx) (err error) {
		records, err = store.List[appstream.UsageRecord](tx, store.Query{Noun: appstream.NounUsageRecord, Region: a.Region, Accounts: []string{a.Account}, Prefix: a.Day + "/"})
		return err
	})
	if err != nil {
		return err
	}
	sessions, applications := appstream.ReportKeys(a.Day)
	for key, report := range map[string][]byte{sessions: appstream.SessionsReport(records), applications: appstream.ApplicationsReport(a.Day, records)} {
		if report == nil {
			continue
		}
		err := e.Objects.Put(ctx, objects.Location{Account: a.Account, Bucket: a.Bucket, Key: key}, bytes.NewReader(report))
		switch {
		case errors.Is(err, fs.ErrPermission):
			return &compute.Fault{Code: string(types.UsageReportExecutionErrorCodeAccessDenied), Message: "the server may not write " + key + "; let its user write into the bucket", Cause: err}
		case errors.Is(err, fs.ErrNotExist):
			return &compute.Fault{Code: string(types.UsageReportExecutionErrorCodeResourceNotFound), Message: "the bucket of the server's settings is not there, for " + key, Cause: err}
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
			return &compute.Fault{Message: "there is no space left for " + key + "; make room, and it will be written", Cause: err}
		case err != nil && ctx.Err() == nil: // the error may say where the server keeps its files; its log does
			return &compute.Fault{Message: key + " cannot be written just now; it is tried again", Cause: err}
		case err != nil:
			return err
		}
	}
	return nil
}

// passUsageRecord is one pass over what a report says of a session.
func (e *Engine) passUsageRecord(ctx context.Context, head appstream.Meta) error {
	var u appstream.UsageRecord
	var to *appstream.UsageReportSubscription
	err := e.Store.View(ctx, func(tx store.Tx) (err error) {
		if err = tx.Find(head.ID, &u); err == nil {
			to, err = subscription(tx, head)
		}
		return err
	})
	if err != nil {
		return err
	}
	return finish(ctx, e, u, func() (appstream.Decision[appstream.UsageRecord], error) {
		return appstream.PlanUsageRecord(u, to, time.Now().UTC()), nil
	})
}

// subscription reads the subscription to usage reports of a record's account and region; nil when there is none.
func subscription(tx store.Tx, head appstream.Meta) (*appstream.UsageReportSubscription, error) {
	var sub appstream.UsageReportSubscription
	err := tx.Get(appstream.UsageSubscription(head.Account, head.Region), &sub)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &sub, err
}
