package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/oriel-project/oriel/internal/appstream"
)

// Metrics has the server's figures, in a registry of its own. Names begin with oriel_, times are in seconds.
type Metrics struct {
	registry *prometheus.Registry

	requests      *prometheus.CounterVec
	requestTime   *prometheus.HistogramVec
	passes        *prometheus.CounterVec
	passTime      *prometheus.HistogramVec
	streamsOpen   prometheus.Gauge
	streams       *prometheus.CounterVec
	streamBytes   *prometheus.CounterVec
	refused       *prometheus.CounterVec
	auditFailures prometheus.Counter
	appstream     *appstreamFigures // nil until Watch
}

// Population is how many records of a noun are in a state.
type Population struct {
	Noun  appstream.Noun
	State string
	Count int
}

// NewMetrics makes the figures. population is called for each scrape; its error leaves the figure out.
func NewMetrics(version string, population func() ([]Population, error)) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: counter("oriel_requests_total", "Requests to the API by operation, protocol and error code (empty for success).", "operation", "protocol", "code"),
		requestTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "oriel_request_seconds", Help: "How long requests to the API took.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5}}, []string{"operation", "protocol"}),
		passes: counter("oriel_passes_total", "Passes of the engine by noun and outcome.", "noun", "outcome"),
		passTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "oriel_pass_seconds", Help: "How long passes of the engine took.",
			Buckets: []float64{.001, .01, .1, .5, 1, 5, 30, 120, 600}}, []string{"noun"}),
		streamsOpen:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "oriel_streams_open", Help: "Streams that are open."}),
		streams:       counter("oriel_streams_total", "Streams that have ended, by reason.", "reason"),
		streamBytes:   counter("oriel_stream_bytes_total", "Bytes of streams that have ended, by direction as the browser sees it.", "direction"),
		refused:       counter("oriel_stream_refusals_total", "Tickets, sessions and addresses that were refused, by reason.", "reason"),
		auditFailures: prometheus.NewCounter(prometheus.CounterOpts{Name: "oriel_audit_failures_total", Help: "Refused requests that could not be written to the audit log."}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "oriel_build_info", Help: "Always 1; the label says which version runs.",
		ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.registry.MustRegister(m.requests, m.requestTime, m.passes, m.passTime, m.streamsOpen, m.streams, m.streamBytes, m.refused, m.auditFailures, info,
		&census{population: population, desc: prometheus.NewDesc("oriel_records", "Records by noun and state.", []string{"noun", "state"}, nil)},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the figures.
func (m *Metrics) Handler() http.Handler {
	return promhttp.InstrumentMetricHandler(m.registry, promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
}

// Request counts a request; see api.Config.Observe.
func (m *Metrics) Request(operation, protocol, code string, d time.Duration) {
	m.requests.WithLabelValues(operation, protocol, code).Inc()
	m.requestTime.WithLabelValues(operation, protocol).Observe(d.Seconds())
}

// Pass counts a pass; see reconcile.Config.Observe.
func (m *Metrics) Pass(noun appstream.Noun, outcome string, d time.Duration) {
	m.passes.WithLabelValues(string(noun), outcome).Inc()
	m.passTime.WithLabelValues(string(noun)).Observe(d.Seconds())
}

// StreamOpened counts a stream that begins.
func (m *Metrics) StreamOpened() { m.streamsOpen.Inc() }

// StreamClosed counts a stream that has ended; see gateway.Hooks.
func (m *Metrics) StreamClosed(reason string, _ time.Duration, sent, received int64) {
	m.streamsOpen.Dec()
	m.streams.WithLabelValues(reason).Inc()
	m.streamBytes.WithLabelValues("down").Add(float64(sent))
	m.streamBytes.WithLabelValues("up").Add(float64(received))
}

// Refused counts a ticket, session or address that was refused.
func (m *Metrics) Refused(reason string) { m.refused.WithLabelValues(reason).Inc() }

// AuditFailed counts a line of the audit log that could not be written.
func (m *Metrics) AuditFailed() { m.auditFailures.Inc() }

// census counts the records when it is asked, so that the figure is right after a restart too.
type census struct {
	population func() ([]Population, error)
	desc       *prometheus.Desc
}

func (c *census) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *census) Collect(ch chan<- prometheus.Metric) {
	list, err := c.population()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.desc, err)
		return
	}
	for _, p := range list {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(p.Count), string(p.Noun), p.State)
	}
}
