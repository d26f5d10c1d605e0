package storetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

func testScanOrder(t *testing.T, s store.Store) {
	for _, name := range []string{"b", "a", "B", "a-1", "a.1", "a1", "Z", "_", "aa"} { // bytes order names, no language does
		insert(t, s, newImage(bob, name), newImage(alice, name), newImage("", name))
	}
	other := newImage(alice, "a")
	other.Region = region2
	insert(t, s, other, newBuilder(alice, "a"))
	sorted := []string{"B", "Z", "_", "a", "a-1", "a.1", "a1", "aa", "b"}
	var all, mine []string
	for _, name := range sorted {
		all = append(all, name+"@", name+"@"+alice, name+"@"+bob)
		mine = append(mine, name+"@"+alice)
	}
	q := store.Query{Noun: appstream.NounImage, Region: region}
	wantList(t, "all accounts", scan(t, s, q), all)
	q.Accounts = []string{alice}
	wantList(t, "one account", scan(t, s, q), mine)
	q.Accounts = []string{bob, "", alice, alice}
	wantList(t, "three accounts", scan(t, s, q), all)
	q.After = store.Position{Name: "a", Account: alice}
	wantList(t, "after a position", scan(t, s, q), all[11:])
	q.Limit = 3
	wantList(t, "after a position, with a limit", scan(t, s, q), all[11:14])
	q.After = store.Position{Name: "a+"} // no record is there
	wantList(t, "after a position where nothing is", scan(t, s, q), all[12:15])
	q.After = store.Position{Name: "b", Account: bob}
	wantList(t, "after the last", scan(t, s, q), nil)
	q = store.Query{Noun: appstream.NounImage, Region: region, Accounts: []string{alice}, Prefix: "a"}
	wantList(t, "a prefix", scan(t, s, q), mine[3:8])
	q.Prefix = "a-"
	wantList(t, "a longer prefix", scan(t, s, q), mine[4:5])
	q.Prefix, q.After = "a", store.Position{Name: "a.1", Account: alice}
	wantList(t, "a prefix after a position", scan(t, s, q), mine[6:8])
	q.After = store.Position{Name: "b"}
	wantList(t, "a prefix before a position", scan(t, s, q), nil)
	q = store.Query{Noun: appstream.NounImage, Region: region, Accounts: []string{alice}, States: []string{appstream.ImageDeleting, newImage(alice, "a").State}}
	wantList(t, "states", scan(t, s, q), mine)
	q.States = []string{appstream.ImageDeleting}
	wantList(t, "another state", scan(t, s, q), nil)
	q = store.Query{Noun: appstream.NounImage, Accounts: []string{alice}}
	if n := len(scan(t, s, q)); n != len(mine)+1 {
		t.Errorf("%d records in all regions, want %d", n, len(mine)+1)
	}
	q.Region = region2
	wantList(t, "another region", scan(t, s, q), []string{"a@" + alice})
	wantList(t, "no account", scan(t, s, store.Query{Noun: appstream.NounImage, Accounts: []string{}}), nil)
	wantList(t, "an unknown account", scan(t, s, store.Query{Noun: appstream.NounImage, Accounts: []string{carol}}), nil)
	q = store.Query{Noun: appstream.NounImage, Region: region, Accounts: []string{carol, "4", "5", "6", "7", "8", alice, "9"}}
	wantList(t, "many accounts", scan(t, s, q), mine)

	stop := errors.New("stop")
	calls := 0
	err := s.View(t.Context(), func(tx store.Tx) error {
		return tx.Scan(store.Query{Noun: appstream.NounImage}, func(h appstream.Meta, decode func(appstream.Record) error) error {
			calls++
			var i appstream.Image
			if err := decode(&i); err != nil {
				return err
			}
			if i.Key != h.Key || i.ID != h.ID || i.Version != h.Version || i.State != h.State || h.Version != 1 || !i.Created.Equal(epoch) {
				t.Errorf("head %+v, record %+v", h, i.Meta)
			}
			if calls == 4 {
				return stop
			}
			return nil
		})
	})
	if !errors.Is(err, stop) || calls != 4 {
		t.Errorf("Scan returns %v after %d calls, want the error of fn after 4", err, calls)
	}
}

func testScanAccounts(t *testing.T, s store.Store) {
	shared := newImage(alice, "shared", bob, carol)
	own := newImage(bob, "own", bob) // shared with its owner: it is still one image
	public := newImage("", "public", bob)
	private := newImage(alice, "private")
	elsewhere := newImage(alice, "elsewhere", bob)
	elsewhere.Region = region2
	insert(t, s, shared, own, public, private, elsewhere)

	visible := store.Query{Noun: appstream.NounImage, Region: region, Accounts: []string{"", bob}, GrantedTo: bob}
	want := []string{"own@" + bob, "public@", "shared@" + alice}
	wantList(t, "visible to bob", scan(t, s, visible), want)
	for n := range want { // in pages of any size
		q, got := visible, []string{}
		q.Limit = n + 1
		for {
			page := scan(t, s, q)
			got = append(got, page...)
			if len(page) < q.Limit || len(got) > len(want) {
				break
			}
			last := page[len(page)-1]
			for i := range last {
				if last[i] == '@' {
					q.After = store.Position{Name: last[:i], Account: last[i+1:]}
				}
			}
		}
		wantList(t, fmt.Sprint("in pages of ", n+1), got, want)
	}
	wantList(t, "granted to bob only", scan(t, s, store.Query{Noun: appstream.NounImage, Region: region, GrantedTo: bob}), want)
	wantList(t, "granted to bob in all regions", scan(t, s, store.Query{Noun: appstream.NounImage, GrantedTo: bob}),
		[]string{"elsewhere@" + alice, "own@" + bob, "public@", "shared@" + alice})
	wantList(t, "granted to alice", scan(t, s, store.Query{Noun: appstream.NounImage, GrantedTo: alice}), nil)
	wantList(t, "builders granted to bob", scan(t, s, store.Query{Noun: appstream.NounImageBuilder, GrantedTo: bob}), nil)
	many := visible
	many.Accounts = []string{"", bob, "4", "5", "6", "7", "8"}
	wantList(t, "many accounts and granted to bob", scan(t, s, many), want)

	delete(shared.Permissions, bob)
	put(t, s, shared)
	wantList(t, "after the grant was taken back", scan(t, s, visible), want[:2])
	wantList(t, "carol's grant stays", scan(t, s, store.Query{Noun: appstream.NounImage, GrantedTo: carol}), []string{"shared@" + alice})
	update(t, s, func(tx store.Tx) error { return tx.Delete(shared) })
	insert(t, s, newImage(alice, "shared")) // its successor is not shared
	wantList(t, "after the image was removed", scan(t, s, store.Query{Noun: appstream.NounImage, GrantedTo: carol}), nil)
}

// testScanHeads checks that a query for heads gives what any gives, but for the rest of the record.
func testScanHeads(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	b.Due = epoch
	insert(t, s, b)
	heads := func(q store.Query) (head appstream.Meta, err error) {
		view(t, s, func(tx store.Tx) error {
			return tx.Scan(q, func(h appstream.Meta, decode func(appstream.Record) error) error {
				head, err = h, decode(&appstream.ImageBuilder{})
				return nil
			})
		})
		return head, err
	}
	q := store.Query{Noun: appstream.NounImageBuilder, Region: region, Accounts: []string{alice}, States: []string{b.State}}
	want, err := heads(q)
	if err != nil || want.ID != b.ID {
		t.Fatalf("%+v, %v", want, err)
	}
	q.Heads = true
	got, err := heads(q)
	if err == nil {
		t.Error("decode gives something")
	}
	if d := diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// testScanLinks checks that Query.LinksTo finds what says that it is linked, and follows what it says.
func testScanLinks(t *testing.T, s store.Store) {
	const source = "oriel/image:source"
	copies := []*appstream.Image{newImage(alice, "b", bob), newImage(alice, "a"), newImage(bob, "c"), newImage(alice, "other")}
	elsewhere := newImage(alice, "elsewhere")
	elsewhere.Region = region2
	for _, i := range append(copies[:3:3], elsewhere) {
		i.CopyOf = source
	}
	copies[0].UpdateOf = source // twice is once
	for _, i := range append(copies, elsewhere) {
		insert(t, s, i)
	}
	linked := store.Query{Noun: appstream.NounImage, Region: region, LinksTo: source}
	with := func(edit func(*store.Query)) store.Query {
		q := linked
		edit(&q)
		return q
	}
	wantList(t, "linked", scan(t, s, linked), []string{"a@" + alice, "b@" + alice, "c@" + bob})
	wantList(t, "of one account", scan(t, s, with(func(q *store.Query) { q.Accounts = []string{alice} })), []string{"a@" + alice, "b@" + alice})
	wantList(t, "of two accounts", scan(t, s, with(func(q *store.Query) { q.Accounts = []string{bob, alice} })), []string{"a@" + alice, "b@" + alice, "c@" + bob})
	wantList(t, "granted or his", scan(t, s, with(func(q *store.Query) { q.Accounts, q.GrantedTo = []string{bob}, bob })), []string{"b@" + alice, "c@" + bob})
	wantList(t, "of all regions", scan(t, s, with(func(q *store.Query) { q.Region = "" })), []string{"a@" + alice, "b@" + alice, "c@" + bob, "elsewhere@" + alice})
	wantList(t, "a page", scan(t, s, with(func(q *store.Query) { q.After, q.Limit = store.Position{Name: "a", Account: alice}, 1 })), []string{"b@" + alice})
	wantList(t, "of a prefix", scan(t, s, with(func(q *store.Query) { q.Prefix = "c" })), []string{"c@" + bob})
	wantList(t, "in a state", scan(t, s, with(func(q *store.Query) { q.Accounts, q.States = []string{alice}, []string{copies[0].State} })), []string{"a@" + alice, "b@" + alice})
	wantList(t, "in another", scan(t, s, with(func(q *store.Query) { q.Accounts, q.States = []string{alice}, []string{"none", "neither"} })), nil)
	wantList(t, "of another noun", scan(t, s, with(func(q *store.Query) { q.Noun = appstream.NounFleet })), nil)
	wantList(t, "linked to another", scan(t, s, with(func(q *store.Query) { q.LinksTo = source + "2" })), nil)

	copies[0].CopyOf, copies[0].UpdateOf = source+"2", ""
	put(t, s, copies[0])
	wantList(t, "after it was linked to another", scan(t, s, with(func(q *store.Query) { q.LinksTo = source + "2" })), []string{"b@" + alice})
	update(t, s, func(tx store.Tx) error { return tx.Delete(copies[1]) })
	insert(t, s, newImage(alice, "a"))
	wantList(t, "what is left", scan(t, s, linked), []string{"c@" + bob})
}

// testScanWrites checks that fn can write, and does not meet what it has written.
func testScanWrites(t *testing.T, s store.Store) {
	for n := range 20 {
		insert(t, s, newBuilder(alice, fmt.Sprintf("b%02d", n)))
	}
	seen := 0
	update(t, s, func(tx store.Tx) error {
		return tx.Scan(store.Query{Noun: appstream.NounImageBuilder}, func(h appstream.Meta, decode func(appstream.Record) error) error {
			seen++
			var b, again appstream.ImageBuilder
			if err := decode(&b); err != nil {
				return err
			}
			b.State = appstream.BuilderRunning
			if err := errors.Join(tx.Put(&b), tx.Get(b.Key, &again), tx.Insert(newBuilder(alice, h.Name+"x"))); err != nil {
				return err
			}
			if again.Version != 2 {
				t.Errorf("version %d in the transaction, want 2", again.Version)
			}
			return tx.Scan(store.Query{Noun: appstream.NounImageBuilder, Limit: 1}, func(appstream.Meta, func(appstream.Record) error) error { return nil })
		})
	})
	if seen != 20 {
		t.Errorf("the scan met %d records, want the 20 that were there", seen)
	}
}

// testPaging changes records between the pages: those that were there all the time are met once.
func testPaging(t *testing.T, s store.Store) {
	records := map[string]*appstream.ImageBuilder{}
	for n := range 60 {
		b := newBuilder(alice, fmt.Sprintf("n%02d", n))
		records[b.Name] = b
		insert(t, s, b)
	}
	steady := func(name string) bool { return len(name) == 3 && name[2]%2 == 0 }
	met := map[string]int{}
	q := store.Query{Noun: appstream.NounImageBuilder, Region: region, Accounts: []string{alice}, Limit: 7}
	for page := 0; ; page++ {
		got := scan(t, s, q)
		for _, name := range got {
			met[name[:len(name)-len("@"+alice)]]++
		}
		if len(got) < q.Limit || page > 100 {
			break
		}
		last := got[len(got)-1]
		q.After = store.Position{Name: last[:len(last)-len("@"+alice)], Account: alice}
		// Another client removes, adds and changes records before, at and behind the position.
		for i := range 3 {
			name := fmt.Sprintf("n%02d", (page*13+i*20)%60)
			b := records[name]
			if b == nil || steady(name) {
				continue
			}
			delete(records, name)
			b.State = appstream.BuilderDeleting
			update(t, s, func(tx store.Tx) error { return errors.Join(tx.Put(b), tx.Delete(b)) })
			insert(t, s, newBuilder(alice, name+"-new"))
		}
		b := records["n10"]
		b.View.Description = new(fmt.Sprint(page))
		put(t, s, b)
	}
	for n := range 60 {
		name := fmt.Sprintf("n%02d", n)
		if steady(name) && met[name] != 1 || met[name] > 1 {
			t.Errorf("%s was met %d times", name, met[name])
		}
	}
}
