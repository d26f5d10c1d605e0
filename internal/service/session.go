package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"
	"uuid"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

// maxContext is the greatest length of a SessionContext, in characters.
const maxContext = 1000

// CreateStreamingURL makes an address that begins, or goes on with, a person's session on a fleet until it expires. The address costs
// nothing until it is opened.
func (s *Service) CreateStreamingURL(ctx context.Context, in *aws.CreateStreamingURLInput) (*aws.CreateStreamingURLOutput, error) {
	url, expires, err := s.personURL(ctx, "appstream:CreateStreamingURL", in.Validity, ticket.Claims{UserID: value(in.UserId),
		Fleet: value(in.FleetName), Stack: value(in.StackName), Application: value(in.ApplicationId), Context: value(in.SessionContext)})
	if err != nil {
		return nil, err
	}
	return &aws.CreateStreamingURLOutput{StreamingURL: &url, Expires: &expires}, nil
}

// personURL signs a streaming URL for a person. c has what it is about; the rest is filled in.
func (s *Service) personURL(ctx context.Context, operation string, valid *int64, c ticket.Claims) (url string, expires time.Time, err error) {
	caller := appstream.CallerFrom(ctx)
	k := key(caller, appstream.NounFleet, c.Fleet)
	if err := checkContext(c.Context); err != nil {
		return "", expires, err
	}
	duration, err := validity(valid, time.Minute)
	if err != nil {
		return "", expires, err
	}
	var f appstream.Fleet
	err = s.change(ctx, operation, k, func(tx store.Tx, now time.Time) error {
		if err := get(tx, k, &f); err != nil {
			return err
		}
		var stack appstream.Stack
		if err := get(tx, key(caller, appstream.NounStack, c.Stack), &stack); err != nil {
			return err
		}
		switch {
		case !slices.Contains(f.Stacks, stack.Name):
			return appstream.Errorf(appstream.OperationNotPermitted, "The fleet %s is not associated with the stack %s. Call AssociateFleet first.", f.Name, stack.Name)
		case f.State != appstream.FleetRunning:
			return inState(appstream.ResourceNotAvailable, k, f.State, "a RUNNING")
		}
		expires = expiry(now, duration)
		return beginsWith(tx, &f, c.Application)
	})
	if err != nil {
		return "", expires, err
	}
	c.Type, c.Account, c.Region, c.RecordID, c.Expires = ticket.TypeEndUser, f.Account, f.Region, f.ID, expires
	url, err = s.cfg.Tickets.URL(caller.BaseURL, c)
	if err != nil {
		return "", expires, fmt.Errorf("sign the streaming URL: %w", err)
	}
	return url, expires, nil
}

// checkContext checks a SessionContext, which programs in the session get as an environment variable.
func checkContext(text string) error {
	control := func(r rune) bool { return unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r' }
	switch n := utf8.RuneCountInString(text); {
	case n > maxContext:
		return appstream.Errorf(appstream.Validation, "SessionContext has %d characters. It may have %d.", n, maxContext)
	case !utf8.ValidString(text), slices.ContainsFunc([]rune(text), control):
		return appstream.Errorf(appstream.Validation, "SessionContext has characters that are not text. Remove control characters.")
	}
	return nil
}

// beginsWith checks that a session on the fleet can begin with an application ("" for none).
func beginsWith(tx store.Tx, f *appstream.Fleet, application string) error {
	switch {
	case application == "":
		return nil
	case application == Desktop && f.View.StreamView == types.StreamViewDesktop:
		return nil
	case application == Desktop:
		return appstream.Errorf(appstream.ResourceNotFound, "ApplicationId is Desktop, but the StreamView of the fleet %s is %s. Name an application of its image.", f.Name, f.View.StreamView)
	}
	catalogue, err := fleetCatalogue(tx, f)
	if err != nil {
		return err
	}
	switch {
	case slices.ContainsFunc(catalogue.Applications, func(a types.Application) bool { return value(a.Name) == application }):
		return nil
	case f.Elastic():
		return appstream.Errorf(appstream.ResourceNotFound, "The fleet %s does not have the application %s. Call AssociateApplicationFleet, and wait until the fleet has it.", f.Name, application)
	}
	return appstream.Errorf(appstream.ResourceNotFound, "The application %s does not exist in the image %s of the fleet %s.", application, value(f.View.ImageName), f.Name)
}

// DescribeSessions describes the sessions on a fleet by a stack, in no particular order. Those that are over are among them until
// nothing of them is left on their instance.
func (s *Service) DescribeSessions(ctx context.Context, in *aws.DescribeSessionsInput) (*aws.DescribeSessionsOutput, error) {
	c := appstream.CallerFrom(ctx)
	if limit := value(in.Limit); limit < 0 || limit > 50 {
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "Limit is %d. It must be between 0 and 50.", limit)
	}
	p, err := openPage(c, in, 20, 50)
	if err != nil {
		return nil, err
	}
	auth := in.AuthenticationType
	if in.UserId != nil && auth == "" {
		auth = types.AuthenticationTypeApi // two kinds of users may have the same name
	}
	var list []appstream.Session
	var next *string
	drain := map[string]types.InstanceDrainStatus{}
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		var f appstream.Fleet
		var stack appstream.Stack
		if err := get(tx, key(c, appstream.NounFleet, value(in.FleetName)), &f); err != nil {
			return err
		}
		if err := get(tx, key(c, appstream.NounStack, value(in.StackName)), &stack); err != nil {
			return err
		}
		list, err = pick(tx, p, store.Query{Noun: appstream.NounSession, Region: c.Region, Accounts: []string{c.Account}, Prefix: appstream.SessionPrefix(f.Name, value(in.UserId))},
			func(session *appstream.Session) bool {
				return session.FleetID == f.ID && session.StackID == stack.ID && !session.Cleared &&
					(in.UserId == nil || session.UserID == *in.UserId) &&
					(in.InstanceId == nil || session.InstanceID == *in.InstanceId) &&
					(auth == "" || session.AuthType == auth)
			})
		if err != nil {
			return err
		}
		list, next = cut(p, list, place)
		for _, session := range list {
			if _, known := drain[session.InstanceID]; known {
				continue
			}
			var i appstream.Instance
			if err := tx.Find(session.InstanceID, &i); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			drain[session.InstanceID] = i.DrainStatus()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := &aws.DescribeSessionsOutput{Sessions: make([]types.Session, len(list)), NextToken: next}
	for n := range list {
		out.Sessions[n] = list[n].Describe(drain[list[n].InstanceID])
	}
	return out, nil
}

// ExpireSession ends a session at once. The API has no error for a session that is not there, or over: nothing is to be done.
func (s *Service) ExpireSession(ctx context.Context, in *aws.ExpireSessionInput) (*aws.ExpireSessionOutput, error) {
	c := appstream.CallerFrom(ctx)
	id := value(in.SessionId)
	if !isSessionID(id) {
		return &aws.ExpireSessionOutput{}, nil
	}
	err := s.endSession(ctx, "appstream:ExpireSession", id, appstream.EndByAdmin, func(session *appstream.Session) bool { return mine(c, session) })
	if err != nil {
		return nil, err
	}
	return &aws.ExpireSessionOutput{}, nil
}

// isSessionID tells whether an ID can be that of a session: those of all other nouns begin with the noun.
func isSessionID(id string) bool {
	_, err := uuid.Parse(id)
	return err == nil
}

// mine tells whether a session is the caller's.
func mine(c appstream.Caller, session *appstream.Session) bool {
	return session.Account == c.Account && session.Region == c.Region
}

// DrainSessionInstance keeps new sessions off the instance of a session. It goes when the last that is on it is over.
func (s *Service) DrainSessionInstance(ctx context.Context, in *aws.DrainSessionInstanceInput) (*aws.DrainSessionInstanceOutput, error) {
	c := appstream.CallerFrom(ctx)
	id := value(in.SessionId)
	missing := appstream.Errorf(appstream.ResourceNotFound, "The session %s for account %s does not exist.", id, c.Account)
	if !isSessionID(id) {
		return nil, missing
	}
	var session appstream.Session
	err := s.cfg.Store.View(ctx, func(tx store.Tx) error { return tx.Find(id, &session) })
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && !mine(c, &session):
		return nil, missing
	case err != nil:
		return nil, err
	}
	err = s.change(ctx, "appstream:DrainSessionInstance", session.Key, func(tx store.Tx, now time.Time) error {
		var i appstream.Instance
		if err := tx.Find(id, &session); errors.Is(err, store.ErrNotFound) || err == nil && session.State == appstream.SessionExpired {
			return missing
		} else if err != nil {
			return err
		}
		if err := tx.Find(session.InstanceID, &i); errors.Is(err, store.ErrNotFound) {
			return missing // its instance was lost, which ends it
		} else if err != nil {
			return err
		}
		switch {
		case !i.Multi():
			return appstream.Errorf(appstream.OperationNotPermitted, "The fleet %s is not a multi-session fleet. Only an instance that several sessions share can be drained. Call ExpireSession to end this session.", session.Fleet)
		case i.State != appstream.InstanceInUse:
			return nil // it is draining, or going
		}
		i.Enter(appstream.InstanceDraining, now)
		if err := move(tx, &i.Meta, appstream.InstanceInUse, now, "DrainSessionInstance"); err != nil {
			return err
		}
		return errors.Join(tx.Put(&i), tx.Wake(key(c, appstream.NounFleet, i.Fleet), now))
	})
	if err != nil {
		return nil, err
	}
	return &aws.DrainSessionInstanceOutput{}, nil
}
