package telemetry

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
)

func TestAppStreamFigures(t *testing.T) {
	var broken error
	one := appstream.Fleet{Meta: appstream.Meta{Key: appstream.Key{Account: "123456789012", Region: "us-east-1", Noun: appstream.NounFleet, Name: "one"}}, Desired: 5}
	many := one
	many.Name, many.DesiredSessions, many.View.MaxSessionsPerInstance = "many", 11, aws.Int32(4)
	elastic := one
	elastic.Name, elastic.View.FleetType = "elastic", types.FleetTypeElastic
	fleets := []FleetFigures{
		{Fleet: elastic, Capacity: appstream.Capacity{InUse: 2, Available: 2}},
		{Fleet: one, Capacity: appstream.Capacity{Pending: 1, Available: 1, InUse: 3, Running: 4}},
		{Fleet: many, Capacity: appstream.Capacity{Pending: 1, Available: 1, InUse: 1, Running: 3, Draining: 1, ActiveSessions: 3, AvailableSessions: 5, ActualSessions: 8, DrainingActive: 1, DrainingUnused: 3}},
	}
	m := NewMetrics("1", func() ([]Population, error) { return nil, nil })
	m.Watch(func() ([]FleetFigures, error) { return fleets, broken }, func() []SessionFigures {
		return []SessionFigures{{Session: appstream.Session{Meta: appstream.Meta{Key: one.Key, ID: "s1"}, Fleet: "one", InstanceID: "i-1", UserID: "ada"},
			RoundTrip: 12.5, Frames: 30, Out: 800, In: 4, Connected: 60}}
	})
	m.NoCapacity(one.Key)
	m.NoCapacity(one.Key)
	m.NoCapacity(elastic.Key)
	text := scrape(t, m)
	of := func(fleet string) string { return `{Fleet="` + fleet + `",account="123456789012",region="us-east-1"} ` }
	session := `{FleetName="one",InstanceId="i-1",SessionId="s1",UserId="ada",account="123456789012",region="us-east-1"} `
	for _, want := range []string{
		"appstream_ActualCapacity" + of("one") + "4", "appstream_AvailableCapacity" + of("one") + "1", "appstream_CapacityUtilization" + of("one") + "75",
		"appstream_DesiredCapacity" + of("one") + "5", "appstream_InUseCapacity" + of("one") + "3", "appstream_PendingCapacity" + of("one") + "1",
		"appstream_RunningCapacity" + of("one") + "4", "appstream_InsufficientCapacityError" + of("one") + "2", "appstream_InsufficientCapacityError" + of("many") + "0",
		"appstream_InUseCapacity" + of("elastic") + "2", "appstream_InsufficientConcurrencyLimitError" + of("elastic") + "1", "appstream_InsufficientCapacityError" + of("elastic") + "0",
		"appstream_ActiveUserSessionCapacity" + of("many") + "3", "appstream_PendingUserSessionCapacity" + of("many") + "4", "appstream_RunningUserSessionCapacity" + of("many") + "8",
		"appstream_UserSessionsCapacityUtilization" + of("many") + "37.5", "appstream_DrainingCapacity" + of("many") + "1", "appstream_DrainModeUnusedUserSessionCapacity" + of("many") + "3",
		"appstream_DesiredUserSessionCapacity" + of("many") + "12", "appstream_CapacityUtilization" + of("many") + "37.5",
		"appstream_InSessionLatency" + session + "12.5", "appstream_FramesPerSecond" + session + "30", "appstream_Bandwidth" + session + "800", "appstream_ConnectionDuration" + session + "60",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %q", want)
		}
	}
	if strings.Contains(text, "appstream_ActiveUserSessionCapacity"+of("one")) {
		t.Error("a fleet of single sessions has figures of several")
	}
	if strings.Contains(text, "appstream_AvailableCapacity"+of("elastic")) || strings.Contains(text, "appstream_InsufficientConcurrencyLimitError"+of("one")) {
		t.Error("an Elastic fleet has figures of others, or the other way round")
	}
	fleets = fleets[2:]
	if text := scrape(t, m); strings.Contains(text, `Fleet="one"`) {
		t.Error("figures of a fleet that is gone stay")
	}
	broken = errors.New("no store")
	if text := scrape(t, m); !strings.Contains(text, "oriel_build_info") || strings.Contains(text, "appstream_ActualCapacity") {
		t.Error("a store that fails takes more with it than the figures of fleets")
	}
}
