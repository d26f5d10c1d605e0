package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

func testRecords(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	b.Due = at(5)
	insert(t, s, b)
	if b.Version != 1 {
		t.Errorf("Insert sets version %d, want 1", b.Version)
	}
	b.State, b.Due, b.Provisioned = appstream.BuilderRunning, time.Time{}, true
	put(t, s, b)
	if b.Version != 2 {
		t.Errorf("Put sets version %d, want 2", b.Version)
	}
	view(t, s, func(tx store.Tx) error {
		got := appstream.ImageBuilder{ImageRef: "stale", Boots: []time.Time{epoch}} // what was in it does not stay
		if err := tx.Get(b.Key, &got); err != nil {
			return err
		}
		if d := diff(*b, got); d != "" {
			t.Errorf("Get (-want +got):\n%s", d)
		}
		var found appstream.ImageBuilder
		if err := tx.Find(b.ID, &found); err != nil {
			return err
		}
		if d := diff(*b, found); d != "" {
			t.Errorf("Find (-want +got):\n%s", d)
		}
		n, err := tx.Count(alice, region, appstream.NounImageBuilder)
		other, err2 := tx.Count(alice, region2, appstream.NounImageBuilder)
		if n != 1 || other != 0 {
			t.Errorf("Count gives %d and %d, want 1 and 0", n, other)
		}
		return errors.Join(err, err2)
	})
	b.State = appstream.BuilderDeleting
	put(t, s, b)
	update(t, s, func(tx store.Tx) error { return tx.Delete(b) })
	err := s.View(t.Context(), func(tx store.Tx) error { return tx.Get(b.Key, new(appstream.ImageBuilder)) })
	wantErr(t, "Get of a removed record", err, store.ErrNotFound)
	next := newBuilder(alice, "one") // the name is free again
	insert(t, s, next)
	if next.Version != 1 {
		t.Errorf("the next record of the name has version %d, want 1", next.Version)
	}
	wantErr(t, "Put of the removed record", s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(b) }), store.ErrConflict)
}

// testRoundTrip checks that a record comes back as it was written: absent and empty, odd text, small times.
func testRoundTrip(t *testing.T, s store.Store) {
	b := newBuilder(alice, "full")
	b.Deadline, b.Due = at(60), at(1)
	b.Problem = &appstream.Problem{Code: "SUBNET_NOT_FOUND", Message: "no \"subnet\" <&> \u2028 ☃ \x00", Lasting: true, Count: 3, At: at(2)}
	b.Tags = map[string]string{"": "empty", "ключ": "значение", "a/b": ""}
	b.Boots = []time.Time{at(1), at(2).Add(time.Microsecond)}
	b.View = types.ImageBuilder{
		Description: new(""), DisplayName: new("näme"), EnableDefaultInternetAccess: new(false),
		AccessEndpoints:            []types.AccessEndpoint{{EndpointType: types.AccessEndpointTypeStreaming, VpceId: new("vpce-1")}, {}},
		ImageBuilderErrors:         []types.ResourceError{}, // empty is not nil
		VpcConfig:                  &types.VpcConfig{SecurityGroupIds: []string{}, SubnetIds: []string{"subnet-1"}},
		NetworkAccessConfiguration: &types.NetworkAccessConfiguration{},
		RootVolumeConfig:           &types.VolumeConfig{VolumeSizeInGb: new(int32(0))},
		CreatedTime:                new(epoch),
		StateChangeReason:          &types.ImageBuilderStateChangeReason{Code: "INTERNAL_ERROR", Message: new("x")},
	}
	i := newImage("", "public", alice, bob)
	i.Icons = map[string]string{}
	i.View = types.Image{Applications: []types.Application{{Name: new("a"), Metadata: map[string]string{"k": "v"}, Platforms: []types.PlatformType{}}},
		PublicBaseImageReleasedDate: new(epoch)}
	i.Permissions[bob] = types.ImagePermissions{}
	empty := newBuilder(bob, "empty")
	empty.View, empty.Created, empty.Since = types.ImageBuilder{}, time.Time{}, time.Time{}
	insert(t, s, b, i, empty)

	view(t, s, func(tx store.Tx) error {
		for range 2 { // a store may answer the second time from somewhere else
			var gotB, gotE appstream.ImageBuilder
			var gotI appstream.Image
			if err := errors.Join(tx.Get(b.Key, &gotB), tx.Find(i.ID, &gotI), tx.Get(empty.Key, &gotE)); err != nil {
				return err
			}
			if d := diff(*b, gotB) + diff(*i, gotI) + diff(*empty, gotE); d != "" {
				t.Errorf("records changed on the way (-want +got):\n%s", d)
			}
			if gotB.Due.Location() != time.UTC || gotB.Created.Location() != time.UTC {
				t.Error("times are not in UTC")
			}
		}
		return nil
	})

	// A text that is not UTF-8 does not keep a record from being written: it may come from a machine's error.
	b.Problem.Message = "bad \xff text"
	put(t, s, b)
	// A finer due time is rounded up: a claim before it would find nothing to do yet, again and again.
	empty.Due = at(1).Add(-999 * time.Nanosecond).In(time.FixedZone("elsewhere", 3600))
	put(t, s, empty)
	view(t, s, func(tx store.Tx) error {
		var got appstream.ImageBuilder
		if err := tx.Get(empty.Key, &got); err != nil {
			return err
		}
		if !got.Due.Equal(at(1)) || got.Due.Location() != time.UTC {
			t.Errorf("due %v, want %v", got.Due, at(1))
		}
		return tx.Get(b.Key, &got)
	})
}

// testCopies checks that records which were read share nothing with one another nor with what was written.
func testCopies(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	b.Tags = map[string]string{"a": "1"}
	b.Boots = []time.Time{epoch}
	b.View.VpcConfig = &types.VpcConfig{SubnetIds: []string{"subnet-1"}}
	insert(t, s, b)
	var want appstream.ImageBuilder
	view(t, s, func(tx store.Tx) error { return tx.Get(b.Key, &want) })
	spoil := func(b *appstream.ImageBuilder) {
		b.Tags["a"], b.Boots[0], *b.View.DisplayName, b.View.VpcConfig.SubnetIds[0] = "2", at(1), "spoiled", "spoiled"
		b.View.VpcConfig.SecurityGroupIds = append(b.View.VpcConfig.SecurityGroupIds, "spoiled")
	}
	spoil(b)
	for range 3 {
		var got, found appstream.ImageBuilder
		view(t, s, func(tx store.Tx) error { return errors.Join(tx.Get(b.Key, &got), tx.Find(b.ID, &found)) })
		list, err := []appstream.ImageBuilder(nil), error(nil)
		view(t, s, func(tx store.Tx) error {
			list, err = store.List[appstream.ImageBuilder](tx, store.Query{Noun: appstream.NounImageBuilder})
			return err
		})
		if len(list) != 1 {
			t.Fatalf("%d records, want 1", len(list))
		}
		if d := diff(want, got) + diff(want, found) + diff(want, list[0]); d != "" {
			t.Fatalf("a change of a record that was read changed the store (-want +got):\n%s", d)
		}
		spoil(&got)
		spoil(&found)
		spoil(&list[0])
	}
}

func testExists(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	insert(t, s, b)
	try := func(rec appstream.Record) error {
		return s.Update(t.Context(), func(tx store.Tx) error { return tx.Insert(rec) })
	}
	wantErr(t, "the same key", try(newBuilder(alice, "one")), store.ErrExists)
	twin := newBuilder(alice, "two")
	twin.ID = b.ID
	wantErr(t, "the same ID", try(twin), store.ErrExists)
	other := newBuilder(alice, "one")
	other.Region = region2
	image := newImage(alice, "one")
	for what, rec := range map[string]appstream.Record{"another case": newBuilder(alice, "ONE"), "another account": newBuilder(bob, "one"),
		"another region": other, "another noun": image, "no account": newImage("", "one")} {
		if err := try(rec); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func testNotFound(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	view(t, s, func(tx store.Tx) error {
		wantErr(t, "Get", tx.Get(b.Key, b), store.ErrNotFound)
		wantErr(t, "Find", tx.Find(b.ID, b), store.ErrNotFound)
		return nil
	})
	update(t, s, func(tx store.Tx) error {
		wantErr(t, "Put", tx.Put(b), store.ErrConflict)
		wantErr(t, "Delete", tx.Delete(b), store.ErrConflict)
		if err := tx.Wake(b.Key, epoch); err != nil {
			t.Errorf("Wake: %v", err)
		}
		return nil
	})
	if err := s.Release(t.Context(), b.ID); err != nil {
		t.Errorf("Release: %v", err)
	}
}

func testConflict(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	insert(t, s, b)
	stale := *b
	b.State = appstream.BuilderRunning
	put(t, s, b)
	for what, do := range map[string]func(store.Tx) error{
		"Put":    func(tx store.Tx) error { return tx.Put(&stale) },
		"Delete": func(tx store.Tx) error { return tx.Delete(&stale) },
	} {
		wantErr(t, what+" of an older version", s.Update(t.Context(), do), store.ErrConflict)
	}
	if stale.Version != 1 {
		t.Errorf("a refused Put sets version %d", stale.Version)
	}
	ahead := *b
	ahead.Version++
	wantErr(t, "Put of a later version", s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(&ahead) }), store.ErrConflict)
	renamed := *b
	renamed.Name = "another"
	wantErr(t, "Put under another name", s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(&renamed) }), store.ErrConflict)
	// A lease and a wake are not versions.
	b.Due = epoch
	put(t, s, b)
	claim(t, s, epoch, at(10), 1)
	update(t, s, func(tx store.Tx) error { return tx.Wake(b.Key, at(-1)) })
	put(t, s, b)
}

// testConcurrentUpdates checks that of writers who read the same version exactly one succeeds.
func testConcurrentUpdates(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	insert(t, s, b)
	const writers, rounds = 8, 20
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range rounds {
				for {
					var mine appstream.ImageBuilder
					err := s.View(t.Context(), func(tx store.Tx) error { return tx.Get(b.Key, &mine) })
					if err == nil {
						mine.View.Description = new(fmt.Sprint(mine.Version))
						mine.Boots = append(mine.Boots, epoch)
						err = s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(&mine) })
					}
					if err == nil {
						break
					}
					if !errors.Is(err, store.ErrConflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(tx store.Tx) error {
		var got appstream.ImageBuilder
		err := tx.Get(b.Key, &got)
		if got.Version != 1+writers*rounds || len(got.Boots) != writers*rounds {
			t.Errorf("version %d with %d writes, want %d of each", got.Version, len(got.Boots), writers*rounds)
		}
		return err
	})
}

func newMeta(noun appstream.Noun, name string) appstream.Meta {
	return appstream.Meta{Key: appstream.Key{Account: alice, Region: region, Noun: noun, Name: name}, ID: newID(), Created: epoch, Since: epoch}
}

// testTransitions goes along every edge of every noun's table that starts at a state that can be reached, and tries all
// that is not an edge.
func testTransitions(t *testing.T, s store.Store) {
	newRecord := map[appstream.Noun]func(name string) appstream.Record{
		appstream.NounImageBuilder: func(name string) appstream.Record { return newBuilder(alice, name) },
		appstream.NounImage:        func(name string) appstream.Record { return newImage(alice, name) },
		appstream.NounFleet: func(name string) appstream.Record {
			return &appstream.Fleet{Meta: newMeta(appstream.NounFleet, name)}
		},
		appstream.NounStack: func(name string) appstream.Record {
			return &appstream.Stack{Meta: newMeta(appstream.NounStack, name)}
		},
		appstream.NounInstance: func(name string) appstream.Record {
			return &appstream.Instance{Meta: newMeta(appstream.NounInstance, name)}
		},
		appstream.NounSession: func(name string) appstream.Record {
			return &appstream.Session{Meta: newMeta(appstream.NounSession, name)}
		},
		appstream.NounAccessKey: func(name string) appstream.Record {
			return &appstream.AccessKey{Meta: newMeta(appstream.NounAccessKey, name)}
		},
		appstream.NounExportTask: func(name string) appstream.Record {
			return &appstream.ExportImageTask{Meta: newMeta(appstream.NounExportTask, name)}
		},
		appstream.NounUser: func(name string) appstream.Record {
			return &appstream.User{Meta: newMeta(appstream.NounUser, name)}
		},
		appstream.NounEntitlement: func(name string) appstream.Record {
			return &appstream.Entitlement{Meta: newMeta(appstream.NounEntitlement, name)}
		},
		appstream.NounDirectory: func(name string) appstream.Record {
			return &appstream.DirectoryConfig{Meta: newMeta(appstream.NounDirectory, name)}
		},
		appstream.NounLicenseUsage: func(name string) appstream.Record {
			return &appstream.LicenseUsage{Meta: newMeta(appstream.NounLicenseUsage, name)}
		},
		appstream.NounUsageReports: func(name string) appstream.Record {
			return &appstream.UsageReportSubscription{Meta: newMeta(appstream.NounUsageReports, name)}
		},
		appstream.NounUsageRecord: func(name string) appstream.Record {
			return &appstream.UsageRecord{Meta: newMeta(appstream.NounUsageRecord, name)}
		},
		appstream.NounAppBlock: func(name string) appstream.Record {
			return &appstream.AppBlock{Meta: newMeta(appstream.NounAppBlock, name)}
		},
		appstream.NounAppBlockBuilder: func(name string) appstream.Record {
			return &appstream.AppBlockBuilder{Meta: newMeta(appstream.NounAppBlockBuilder, name)}
		},
		appstream.NounApplication: func(name string) appstream.Record {
			return &appstream.Application{Meta: newMeta(appstream.NounApplication, name)}
		},
		appstream.NounComposition: func(name string) appstream.Record {
			return &appstream.Composition{Meta: newMeta(appstream.NounComposition, name)}
		},
		appstream.NounTheme: func(name string) appstream.Record {
			return &appstream.Theme{Meta: newMeta(appstream.NounTheme, name)}
		},
		appstream.NounLetter: func(name string) appstream.Record {
			return &appstream.Letter{Meta: newMeta(appstream.NounLetter, name)}
		},
	}
	abort := errors.New("abort")
	for noun, table := range appstream.Transitions() {
		if newRecord[noun] == nil {
			t.Errorf("the suite has no record of noun %s", noun)
			continue
		}
		allowed := map[[2]string]bool{}
		states := map[string]bool{}
		for _, edge := range table {
			allowed[[2]string{edge.From, edge.To}] = true
			states[edge.From], states[edge.To] = true, true
		}
		delete(states, "")
		states["NO_SUCH_STATE"] = true
		path := map[string][]string{"": nil} // how to get there
		for queue := []string{""}; len(queue) > 0; queue = queue[1:] {
			for _, edge := range table {
				if _, seen := path[edge.To]; edge.From == queue[0] && !seen {
					path[edge.To] = append(append([]string(nil), path[edge.From]...), edge.To)
					queue = append(queue, edge.To)
				}
			}
		}
		for from, way := range path {
			if from == "" {
				for to := range states {
					rec := newRecord[noun](newID())
					rec.Head().State = to
					err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Insert(rec) })
					if allowed[[2]string{"", to}] != (err == nil) || err != nil && !errors.Is(err, store.ErrTransition) {
						t.Errorf("%s: nothing → %s: %v", noun, to, err)
					}
				}
				continue
			}
			rec := newRecord[noun](newID())
			rec.Head().State = way[0]
			insert(t, s, rec)
			for _, state := range way[1:] {
				rec.Head().State = state
				put(t, s, rec)
			}
			put(t, s, rec) // to stay is always allowed
			was := *rec.Head()
			for to := range states {
				if to == from {
					continue
				}
				err := s.Update(t.Context(), func(tx store.Tx) error {
					*rec.Head() = was
					rec.Head().State = to
					if err := tx.Put(rec); err != nil {
						return err
					}
					return abort
				})
				want := store.ErrTransition
				if allowed[[2]string{from, to}] {
					want = abort
				}
				wantErr(t, fmt.Sprintf("%s: %s → %s", noun, from, to), err, want)
			}
			*rec.Head() = was
			err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Delete(rec) })
			if allowed[[2]string{from, ""}] != (err == nil) || err != nil && !errors.Is(err, store.ErrTransition) {
				t.Errorf("%s: %s → nothing: %v", noun, from, err)
			}
		}
	}
	stranger := newBuilder(alice, "stranger")
	stranger.Noun = "no-such-noun"
	wantErr(t, "an unknown noun", s.Update(t.Context(), func(tx store.Tx) error { return tx.Insert(stranger) }), store.ErrTransition)
}
