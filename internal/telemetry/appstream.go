package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oriel-project/oriel/internal/appstream"
)

// The figures with AppStream's own names, as CloudWatch has them in the namespace AWS/AppStream, behind the prefix appstream_. They are
// counted when they are asked for. A fleet's have the dimension Fleet, a session's those of AppStream's session metrics.

// FleetFigures is what is told of a fleet.
type FleetFigures struct {
	Fleet    appstream.Fleet
	Capacity appstream.Capacity
}

// SessionFigures is what is told of a session that a browser shows.
type SessionFigures struct {
	Session   appstream.Session
	RoundTrip float64 // to the browser and back, in milliseconds; 0 when it is not known yet
	Frames    float64 // a second, since the last time that it was asked
	Out, In   float64 // to and from the browser since the last time, in kbit/s
	Connected float64 // for how long, in seconds
}

type appstreamFigures struct {
	fleets   func() ([]FleetFigures, error)
	sessions func() []SessionFigures

	mu           sync.Mutex
	insufficient map[appstream.Key]float64 // people who found no free instance, by fleet
}

var fleetLabels = []string{"account", "region", "Fleet"}

func figure(name, help string, labels []string) *prometheus.Desc {
	return prometheus.NewDesc("appstream_"+name, help, labels, nil)
}

// What holds for every fleet, in instances.
var fleetFigures = []struct {
	desc  *prometheus.Desc
	value func(FleetFigures) float64
	multi bool // of fleets with several sessions an instance only
	all   bool // of Elastic fleets too
}{
	{desc: figure("ActualCapacity", "Instances that are available or in use.", fleetLabels), value: actual},
	{desc: figure("AvailableCapacity", "Idle instances, ready for sessions.", fleetLabels), value: func(f FleetFigures) float64 { return float64(f.Capacity.Available) }},
	{desc: figure("CapacityUtilization", "Instances in use, in percent of ActualCapacity; of a multi-session fleet sessions, in percent of ActualUserSessionCapacity.", fleetLabels), value: func(f FleetFigures) float64 {
		if f.Fleet.Multi() {
			return sessionUtilization(f)
		}
		return percent(float64(f.Capacity.InUse), actual(f))
	}},
	{desc: figure("DesiredCapacity", "Instances that are available, in use or on their way.", fleetLabels), value: func(f FleetFigures) float64 { return actual(f) + float64(f.Capacity.Pending) }},
	{desc: figure("InUseCapacity", "Instances in use.", fleetLabels), value: func(f FleetFigures) float64 { return float64(f.Capacity.InUse) }, all: true},
	{desc: figure("PendingCapacity", "Instances on their way.", fleetLabels), value: func(f FleetFigures) float64 { return float64(f.Capacity.Pending) }},
	{desc: figure("RunningCapacity", "Instances that run.", fleetLabels), value: func(f FleetFigures) float64 { return float64(f.Capacity.Running) }},

	{desc: figure("DrainingCapacity", "Instances that take no new sessions.", fleetLabels), value: func(f FleetFigures) float64 { return float64(f.Capacity.Draining) }, multi: true},
	{desc: figure("ActualUserSessionCapacity", "Sessions that there is room for, used or not.", fleetLabels), value: func(f FleetFigures) float64 { return float64(f.Capacity.ActualSessions) }, multi: true},
	{desc: figure("ActiveUserSessionCapacity", "Sessions on instances.", fleetLabels), value: func(f FleetFigures) float64 { return float64(f.Capacity.ActiveSessions) }, multi: true},
	{desc: figure("AvailableUserSessionCapacity", "Sessions that there is still room for.", fleetLabels), value: func(f FleetFigures) float64 { return float64(f.Capacity.AvailableSessions) }, multi: true},
	{desc: figure("DesiredUserSessionCapacity", "Sessions that there is room for, or will be on instances on their way.", fleetLabels), value: func(f FleetFigures) float64 { return float64(f.Capacity.ActualSessions) + pendingSessions(f) }, multi: true},
	{desc: figure("PendingUserSessionCapacity", "Sessions that instances on their way will have room for.", fleetLabels), value: pendingSessions, multi: true},
	{desc: figure("RunningUserSessionCapacity", "Sessions that there is room for on instances that run and are not draining, used or not.", fleetLabels), value: func(f FleetFigures) float64 {
		return float64((f.Capacity.Running - f.Capacity.Draining) * f.Fleet.PerInstance())
	}, multi: true},
	{desc: figure("UserSessionsCapacityUtilization", "Sessions on instances, in percent of ActualUserSessionCapacity.", fleetLabels), value: sessionUtilization, multi: true},
	{desc: figure("DrainModeActiveUserSessionCapacity", "Sessions on draining instances.", fleetLabels), value: func(f FleetFigures) float64 { return float64(f.Capacity.DrainingActive) }, multi: true},
	{desc: figure("DrainModeUnusedUserSessionCapacity", "Room on draining instances that nobody will use.", fleetLabels), value: func(f FleetFigures) float64 { return float64(f.Capacity.DrainingUnused) }, multi: true},
}

var insufficientCapacity = figure("InsufficientCapacityError", "Sessions that were refused because no instance was free, since the server has started.", fleetLabels)

// An Elastic fleet makes the instances that it needs: who is refused has come when MaxConcurrentSessions were on it.
var insufficientConcurrency = figure("InsufficientConcurrencyLimitError", "Sessions that were refused because the fleet had as many as it may have, since the server has started.", fleetLabels)

var sessionLabels = []string{"account", "region", "FleetName", "InstanceId", "SessionId", "UserId"}

var sessionFigures = []struct {
	desc  *prometheus.Desc
	value func(SessionFigures) float64
}{
	{figure("InSessionLatency", "Time to the browser and back, in milliseconds.", sessionLabels), func(s SessionFigures) float64 { return s.RoundTrip }},
	{figure("FramesPerSecond", "Updates of the picture a second, since the last scrape.", sessionLabels), func(s SessionFigures) float64 { return s.Frames }},
	{figure("Bandwidth", "Sent to the browser since the last scrape, in kbit/s.", sessionLabels), func(s SessionFigures) float64 { return s.Out }},
	{figure("BandwidthInbound", "Received from the browser since the last scrape, in kbit/s.", sessionLabels), func(s SessionFigures) float64 { return s.In }},
	{figure("ConnectionDuration", "How long the browser has been connected, in seconds.", sessionLabels), func(s SessionFigures) float64 { return s.Connected }},
}

func actual(f FleetFigures) float64 { return float64(f.Capacity.Available + f.Capacity.InUse) }

func pendingSessions(f FleetFigures) float64 {
	return float64(f.Capacity.Pending * f.Fleet.PerInstance())
}

func sessionUtilization(f FleetFigures) float64 {
	return percent(float64(f.Capacity.ActiveSessions), float64(f.Capacity.ActualSessions))
}

func percent(part, whole float64) float64 {
	if whole == 0 {
		return 0
	}
	return part / whole * 100
}

// Watch adds the figures with AppStream's names to what Handler serves. fleets and sessions are called for each scrape; sessions may be nil.
func (m *Metrics) Watch(fleets func() ([]FleetFigures, error), sessions func() []SessionFigures) {
	m.appstream = &appstreamFigures{fleets: fleets, sessions: sessions, insufficient: map[appstream.Key]float64{}}
	m.registry.MustRegister(m.appstream)
}

// NoCapacity counts a person who found no free instance in a fleet.
func (m *Metrics) NoCapacity(fleet appstream.Key) {
	a := m.appstream
	a.mu.Lock()
	defer a.mu.Unlock()
	a.insufficient[fleet]++
}

// Describe sends nothing: which figures there are depends on the fleets.
func (a *appstreamFigures) Describe(chan<- *prometheus.Desc) {}

// Collect sends the figures of every fleet and session.
func (a *appstreamFigures) Collect(ch chan<- prometheus.Metric) {
	fleets, err := a.fleets()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(fleetFigures[0].desc, err)
		return
	}
	a.mu.Lock()
	refused := map[appstream.Key]float64{} // of fleets that are gone, nothing more is told
	for _, f := range fleets {
		refused[f.Fleet.Key] = a.insufficient[f.Fleet.Key]
	}
	a.insufficient = refused
	for _, f := range fleets {
		labels := []string{f.Fleet.Account, f.Fleet.Region, f.Fleet.Name}
		for _, figure := range fleetFigures {
			if figure.all || !f.Fleet.Elastic() && (f.Fleet.Multi() || !figure.multi) {
				ch <- prometheus.MustNewConstMetric(figure.desc, prometheus.GaugeValue, figure.value(f), labels...)
			}
		}
		capacity := refused[f.Fleet.Key]
		if f.Fleet.Elastic() {
			ch <- prometheus.MustNewConstMetric(insufficientConcurrency, prometheus.CounterValue, capacity, labels...)
			capacity = 0
		}
		ch <- prometheus.MustNewConstMetric(insufficientCapacity, prometheus.CounterValue, capacity, labels...)
	}
	a.mu.Unlock()
	if a.sessions == nil {
		return
	}
	for _, s := range a.sessions() {
		r := &s.Session
		for _, figure := range sessionFigures {
			ch <- prometheus.MustNewConstMetric(figure.desc, prometheus.GaugeValue, figure.value(s), r.Account, r.Region, r.Fleet, r.InstanceID, r.ID, r.UserID)
		}
	}
}
