package sqlite

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// sample is a builder with all that the API lets a client say of it.
func sample(n int) *appstream.ImageBuilder {
	b := builder(fmt.Sprintf("builder-%04d", n))
	now := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	b.Created, b.Since, b.Due = now, now, now.Add(time.Duration(n)*time.Second)
	b.Tags = map[string]string{"team": "blue", "cost-centre": "1234"}
	b.ImageRef, b.Provisioned, b.Boots = "oriel/base@sha256:0123456789", true, []time.Time{now}
	b.View = types.ImageBuilder{
		Description: new("a builder for a benchmark"), DisplayName: new("Builder"), ImageArn: new("arn:aws:appstream:us-west-2::image/base"),
		InstanceType: new("stream.standard.medium"), AppstreamAgentVersion: new("LATEST"), EnableDefaultInternetAccess: new(true),
		Platform: "DEBIAN_12", VpcConfig: &types.VpcConfig{SubnetIds: []string{"subnet-1"}, SecurityGroupIds: []string{"sg-1"}},
		NetworkAccessConfiguration: &types.NetworkAccessConfiguration{EniId: new("eni-0123456789abcdef0"), EniPrivateIpAddress: new("10.0.0.1"),
			EniIpv6Addresses: []string{"fd00::1"}},
		RootVolumeConfig: &types.VolumeConfig{VolumeSizeInGb: new(int32(200))},
		AccessEndpoints:  []types.AccessEndpoint{{EndpointType: types.AccessEndpointTypeStreaming, VpceId: new("vpce-1")}},
	}
	return b
}

// filled gives a store of 1000 builders, and a bare connection to the same file.
func filled(b *testing.B) (*Store, *sql.DB) {
	s := open(b)
	err := s.Update(b.Context(), func(tx store.Tx) error {
		for n := range 1000 {
			if err := tx.Insert(sample(n)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return s, raw(b, s.path)
}

// against runs the benchmark and then as many rounds of the bare query, and reports how many times as long the store
// takes. Both read the whole record as a Go struct.
func against(b *testing.B, ours, bare func() error) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if err := ours(); err != nil {
			b.Fatal(err)
		}
	}
	took := b.Elapsed()
	start := time.Now()
	for range b.N {
		if err := bare(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(took)/float64(time.Since(start)), "×bare")
}

func BenchmarkGet(b *testing.B) {
	s, db := filled(b)
	stmt, err := db.Prepare("SELECT id, version, state, due, doc FROM record WHERE " + keyIs)
	if err != nil {
		b.Fatal(err)
	}
	key := sample(500).Key
	var rec appstream.ImageBuilder
	against(b, func() error {
		return s.View(b.Context(), func(tx store.Tx) error { return tx.Get(key, &rec) })
	}, func() error {
		var due sql.NullInt64
		var doc []byte
		if err := stmt.QueryRow(key.Account, key.Region, string(key.Noun), key.Name).Scan(&rec.ID, &rec.Version, &rec.State, &due, &doc); err != nil {
			return err
		}
		return json.Unmarshal(doc, &rec)
	})
}

func BenchmarkGetParallel(b *testing.B) {
	s, _ := filled(b)
	key := sample(500).Key
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var rec appstream.ImageBuilder
		for pb.Next() {
			if err := s.View(b.Context(), func(tx store.Tx) error { return tx.Get(key, &rec) }); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkScan50(b *testing.B) {
	s, db := filled(b)
	q := store.Query{Noun: appstream.NounImageBuilder, Region: "us-west-2", Accounts: []string{"123456789012"},
		After: store.Position{Name: "builder-0500"}, Limit: 50}
	stmt, err := db.Prepare(`SELECT id, name, version, state, due, doc FROM record
		WHERE account = ? AND region = ? AND noun = ? AND name > ? ORDER BY name LIMIT 50`)
	if err != nil {
		b.Fatal(err)
	}
	against(b, func() error {
		return s.View(b.Context(), func(tx store.Tx) error {
			list, err := store.List[appstream.ImageBuilder](tx, q)
			if len(list) != 50 {
				b.Fatalf("%d records", len(list))
			}
			return err
		})
	}, func() error {
		rows, err := stmt.Query(q.Accounts[0], q.Region, string(q.Noun), q.After.Name)
		if err != nil {
			return err
		}
		defer rows.Close()
		var list []appstream.ImageBuilder
		for rows.Next() {
			var rec appstream.ImageBuilder
			var due sql.NullInt64
			var doc []byte
			if err := rows.Scan(&rec.ID, &rec.Name, &rec.Version, &rec.State, &due, &doc); err != nil {
				return err
			}
			if err := json.Unmarshal(doc, &rec); err != nil {
				return err
			}
			list = append(list, rec)
		}
		if len(list) != 50 {
			b.Fatalf("%d records", len(list))
		}
		return rows.Err()
	})
}

func BenchmarkUpdate(b *testing.B) {
	s, db := filled(b)
	var rec appstream.ImageBuilder
	key := sample(500).Key
	if err := s.View(b.Context(), func(tx store.Tx) error { return tx.Get(key, &rec) }); err != nil {
		b.Fatal(err)
	}
	execute(b, db, "PRAGMA synchronous = FULL")
	db.SetMaxOpenConns(1)
	stmt, err := db.Prepare("UPDATE record SET version = version + 1, state = ?, due = ?, doc = ? WHERE id = ?")
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	against(b, func() error {
		n++
		rec.Due = time.UnixMicro(int64(n))
		return s.Update(b.Context(), func(tx store.Tx) error { return tx.Put(&rec) })
	}, func() error {
		n++
		doc, err := json.Marshal(&rec)
		if err != nil {
			return err
		}
		_, err = stmt.Exec(rec.State, n, string(doc), rec.ID)
		return err
	})
}

func BenchmarkClaim(b *testing.B) {
	s, db := filled(b)
	now := time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)
	db.SetMaxOpenConns(1)
	execute(b, db, "PRAGMA synchronous = FULL")
	take, err := db.Prepare("UPDATE record SET lease = ? WHERE n IN (SELECT n FROM record WHERE due <= ? AND lease IS NULL ORDER BY due LIMIT 1) RETURNING id")
	if err != nil {
		b.Fatal(err)
	}
	give, err := db.Prepare("UPDATE record SET lease = NULL WHERE id = ?")
	if err != nil {
		b.Fatal(err)
	}
	against(b, func() error {
		heads, err := s.Claim(b.Context(), now, now.Add(time.Minute), 1)
		if err != nil || len(heads) != 1 {
			return fmt.Errorf("claimed %d: %w", len(heads), err)
		}
		return s.Release(b.Context(), heads[0].ID)
	}, func() error {
		var id string
		if err := take.QueryRow(now.Add(time.Minute).UnixMicro(), now.UnixMicro()).Scan(&id); err != nil {
			return err
		}
		_, err := give.Exec(id)
		return err
	})
}

func BenchmarkNextDue(b *testing.B) {
	s, _ := filled(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.NextDue(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecode is why decoder keeps what it has read.
func BenchmarkDecode(b *testing.B) {
	doc, err := encode(sample(1))
	if err != nil {
		b.Fatal(err)
	}
	var rec appstream.ImageBuilder
	b.Run("copy", func(b *testing.B) {
		var d decoder
		b.ReportAllocs()
		for b.Loop() {
			if err := d.decode(doc, &rec); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var d decoder
			if err := d.decode(doc, &rec); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := encode(sample(1)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
