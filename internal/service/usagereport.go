package service

import (
	"context"
	"errors"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// CreateUsageReportSubscription has the sessions of the account in the region reported from today on. An account that is subscribed already
// stays so.
func (s *Service) CreateUsageReportSubscription(ctx context.Context, _ *aws.CreateUsageReportSubscriptionInput) (*aws.CreateUsageReportSubscriptionOutput, error) {
	c := appstream.CallerFrom(ctx)
	sub := appstream.UsageReportSubscription{Meta: appstream.Meta{Key: appstream.UsageSubscription(c.Account, c.Region), ID: newID("reports-")},
		Bucket: appstream.LogsBucket(c.Account, c.Region)}
	err := s.change(ctx, "appstream:CreateUsageReportSubscription", sub.Key, func(tx store.Tx, now time.Time) error {
		if err := tx.Get(sub.Key, &appstream.UsageReportSubscription{}); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		sub.Begin(now)
		return insert(tx, &sub, now, "CreateUsageReportSubscription")
	})
	if err != nil {
		return nil, err
	}
	return &aws.CreateUsageReportSubscriptionOutput{S3BucketName: &sub.Bucket, Schedule: types.UsageReportSchedule(sub.Name)}, nil
}

// DescribeUsageReportSubscriptions describes the account's subscriptions in the region: the one, or none.
func (s *Service) DescribeUsageReportSubscriptions(ctx context.Context, in *aws.DescribeUsageReportSubscriptionsInput) (*aws.DescribeUsageReportSubscriptionsOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, 500, 500)
	if err != nil {
		return nil, err
	}
	list, next, err := records[appstream.UsageReportSubscription](ctx, s, c, p, appstream.NounUsageReports, nil)
	if err != nil {
		return nil, err
	}
	out := &aws.DescribeUsageReportSubscriptionsOutput{UsageReportSubscriptions: make([]types.UsageReportSubscription, len(list)), NextToken: next}
	for n := range list {
		out.UsageReportSubscriptions[n] = list[n].Describe()
	}
	return out, nil
}

// DeleteUsageReportSubscription ends the reports. Those that there are stay; what is recorded and not reported is forgotten.
func (s *Service) DeleteUsageReportSubscription(ctx context.Context, _ *aws.DeleteUsageReportSubscriptionInput) (*aws.DeleteUsageReportSubscriptionOutput, error) {
	c := appstream.CallerFrom(ctx)
	k := appstream.UsageSubscription(c.Account, c.Region)
	err := s.change(ctx, "appstream:DeleteUsageReportSubscription", k, func(tx store.Tx, now time.Time) error {
		var sub appstream.UsageReportSubscription
		switch err := tx.Get(k, &sub); {
		case errors.Is(err, store.ErrNotFound):
			return appstream.Errorf(appstream.ResourceNotFound, "The account %s has no subscription to usage reports in %s. CreateUsageReportSubscription makes one.", c.Account, c.Region)
		case err != nil:
			return err
		}
		return remove(tx, &sub, now, "DeleteUsageReportSubscription")
	})
	if err != nil {
		return nil, err
	}
	return &aws.DeleteUsageReportSubscriptionOutput{}, nil
}
