package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/gateway"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/telemetry"
)

// population counts the records, for the metrics.
func (s *Server) population() ([]telemetry.Population, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var list []telemetry.Population
	err := s.store.View(ctx, func(tx store.Tx) error {
		for noun := range appstream.Transitions() {
			count := map[string]int{}
			err := tx.Scan(store.Query{Noun: noun, Heads: true}, func(head appstream.Meta, _ func(appstream.Record) error) error {
				count[head.State]++
				return nil
			})
			if err != nil {
				return fmt.Errorf("count %s records: %w", noun, err)
			}
			for state, n := range count {
				list = append(list, telemetry.Population{Noun: noun, State: state, Count: n})
			}
		}
		return nil
	})
	return list, err
}

// fleetFigures counts the instances of every fleet, for the metrics.
func (s *Server) fleetFigures() ([]telemetry.FleetFigures, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var list []telemetry.FleetFigures
	err := s.store.View(ctx, func(tx store.Tx) error {
		fleets, err := store.List[appstream.Fleet](tx, store.Query{Noun: appstream.NounFleet})
		if err != nil {
			return err
		}
		at := map[string]int{} // by record ID
		for n, f := range fleets {
			at[f.ID] = n
			list = append(list, telemetry.FleetFigures{Fleet: f})
		}
		return tx.Scan(store.Query{Noun: appstream.NounInstance}, func(_ appstream.Meta, decode func(appstream.Record) error) error {
			var i appstream.Instance
			if err := decode(&i); err != nil {
				return err
			}
			if n, ok := at[i.FleetID]; ok {
				list[n].Capacity.Count(&i)
			}
			return nil
		})
	})
	return list, err
}

// streamFigures turns what has happened on streams since they began into what happens now: between one scrape and the next.
type streamFigures struct {
	streams func() []gateway.StreamStat

	mu   sync.Mutex
	last map[stream]sample
}

// stream is one stream of a session; the next one of the same session counts anew.
type stream struct {
	session string
	since   time.Time
}

type sample struct {
	at                     time.Time
	frames, sent, received int64
}

// sessions gives the figures of all sessions that a browser shows.
func (f *streamFigures) sessions() []telemetry.SessionFigures {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	var list []telemetry.SessionFigures
	next := map[stream]sample{}
	for _, s := range f.streams() {
		key := stream{s.Session.ID, s.Since}
		was, seen := f.last[key]
		if !seen {
			was.at = s.Since
		}
		next[key] = sample{now, s.Frames, s.Sent, s.Received}
		figures := telemetry.SessionFigures{Session: *s.Session, RoundTrip: float64(s.RoundTrip) / float64(time.Millisecond), Connected: now.Sub(s.Since).Seconds()}
		if span := now.Sub(was.at).Seconds(); span > 0 {
			figures.Frames = float64(s.Frames-was.frames) / span
			figures.Out = float64(s.Sent-was.sent) * 8 / 1000 / span
			figures.In = float64(s.Received-was.received) * 8 / 1000 / span
		}
		list = append(list, figures)
	}
	f.last = next
	return list
}
