package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/api"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/gateway"
	"github.com/oriel-project/oriel/internal/journal"
	"github.com/oriel-project/oriel/internal/keyring"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

// api makes the handler of the operations: AWS's, and Oriel's own under a prefix of their own.
func (s *Server) api(ctx context.Context, svc *service.Service) (http.Handler, error) {
	ring, err := s.keyring(ctx)
	if err != nil {
		return nil, err
	}
	logs := journal.New(journal.Config{Store: s.store, Administers: ring.Administers, Ending: s.ending})
	// The wrappers hide AWS's operations from the prefix Oriel, and Oriel's from AWS's.
	services := []api.Service{
		{Prefix: "PhotonAdminProxyService", IAM: "appstream", Handler: struct{ service.API }{svc}, Resources: svc.Resources, Dependent: svc.DependentActions, Tags: svc.ResourceTags,
			Repeatable: service.Repeatable, Limits: service.Limits},
		{Prefix: "Oriel", IAM: "oriel", Handler: struct{ service.Extensions }{svc}, Resources: svc.Resources, Dependent: svc.DependentActions, Tags: svc.ResourceTags,
			Limits: service.Limits + service.ExtensionLimits},
		{Prefix: "Oriel", IAM: "oriel", Handler: struct{ keyring.Operations }{ring}, Resources: ring.Resources, Dependent: ring.DependentActions, Limits: keyring.Limits},
		{Prefix: "Oriel", IAM: "oriel", Handler: struct{ journal.Operations }{logs}, Resources: logs.Resources, Tags: svc.ResourceTags, Limits: journal.Limits},
	}
	ring.Know(api.Actions(services...))
	return api.New(api.Config{
		Keys: func(_ context.Context, id string) (api.Key, bool, error) {
			k, ok := ring.Find(id)
			return api.Key{ID: k.ID, Secret: k.Secret, Account: k.Account, Principal: k.Principal, Policy: k.Policy}, ok, nil
		},
		Regions: s.cfg.Region, PublicURL: s.cfg.PublicURL, Audit: s.audit, Observe: s.metrics.Request,
		Secure: secure, Rates: api.Rates{Read: s.cfg.Rates.Read, Write: s.cfg.Rates.Write, Operations: s.cfg.Rates.Operations, Burst: s.cfg.Rates.Burst.Duration},
		Generation: s.store.Generation, Log: s.log,
	}, services...)
}

// audit writes what the operations could not: requests that were refused or failed. What succeeded is written in the
// transaction that did it; what only looks, what nobody signed, and what came too often, which would otherwise cost more than to do it, is in the
// log alone.
func (s *Server) audit(ctx context.Context, e api.AuditEntry) {
	if e.Result == "" || e.Principal == "" || e.Result == appstream.Throttling {
		return
	}
	line := store.Audit{At: e.Time.UTC(), Principal: e.Principal, Operation: e.Service + ":" + e.Operation, Resource: strings.Join(e.Resources, " "),
		Result: string(e.Result), RequestID: e.RequestID}
	if e.Operation == "" {
		line.Operation = "unknown"
	}
	if e.Source.IsValid() {
		line.Source = e.Source.String()
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.store.Update(ctx, func(tx store.Tx) error { return tx.AddAudit(line) }); err != nil {
		s.metrics.AuditFailed()
		s.log.Error("cannot write the audit log", "request_id", e.RequestID, "err", err)
	}
}

// fromViewer makes an image for the viewer's form. The form means the builder that is on the screen, not a later one of its name.
func (s *Server) fromViewer(svc *service.Service) func(context.Context, gateway.NewImage) error {
	return func(ctx context.Context, n gateway.NewImage) error {
		var b appstream.ImageBuilder
		if err := s.store.View(ctx, func(tx store.Tx) error { return tx.Find(n.BuilderID, &b) }); err != nil {
			if errors.Is(err, store.ErrNotFound) {
				return appstream.Errorf(appstream.ResourceNotFound, "The image builder %s was deleted.", n.Builder)
			}
			return err
		}
		_, err := svc.CreateImage(ctx, &service.CreateImageInput{
			ImageBuilderName: &n.Builder, Name: &n.Name, DisplayName: optional(n.DisplayName), Description: optional(n.Description),
			UseLatestAgentVersion: &n.UseLatestAgentVersion,
		})
		return err
	}
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
