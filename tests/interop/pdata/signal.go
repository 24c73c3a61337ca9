package main

// The four signals: all that differs between them stands in this file, once each. Everywhere else
// a request is its entries (ResourceX), their scopes (ScopeX) and the items in them.

import (
	"slices"

	"go.opentelemetry.io/collector/pdata/internal"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// signal is one row of the table.
type signal struct {
	name string
	// Reads as the Collector's receivers do.
	door func([]byte) (request, error)
	// Reads the wire and nothing more: with profiles, references into the dictionary stay what they are.
	raw func([]byte) (request, error)
	// Whether an item has to name its trace.
	traceRequired bool
	// Whether the request has a dictionary.
	dictionary bool
}

// The order is part of the stream.
var signals = []*signal{
	{name: "traces", door: readTraces, raw: readTraces, traceRequired: true},
	{name: "metrics", door: readMetrics, raw: readMetrics},
	{name: "logs", door: readLogs, raw: readLogs},
	{name: "profiles", door: readProfiles, raw: readRawProfiles, dictionary: true},
}

// request is a decoded request that can be edited.
type request interface {
	entries() []entry
	// Removes each ScopeX without items and then each ResourceX without ScopeX.
	dropEmpty()
	// Nil where the signal has none.
	dictionary() *internal.ProfilesDictionary
	SizeProto() int
	MarshalProto([]byte) int
}

// entry is one ResourceX.
type entry struct {
	resource *internal.Resource
	scopes   []scope
}

// scope is one ScopeX.
type scope struct {
	scope *internal.InstrumentationScope
	items items
}

// items are the items of one ScopeX.
type items interface {
	count() int
	// Keeps the items for which it is true.
	keep(func(at int) bool)
	// Visits the attributes that are an item's own claims.
	claims(func(*[]internal.KeyValue))
	// Visits the trace ids that say to which trace an item belongs.
	traces(func(internal.TraceID))
}

// list makes items of a slice and of what is particular to its elements.
type list[T any] struct {
	of *[]*T
	*parts[T]
}

type parts[T any] struct {
	itemClaims func(*T, func(*[]internal.KeyValue))
	itemTraces func(*T, func(internal.TraceID))
}

func (l list[T]) count() int { return len(*l.of) }

func (l list[T]) keep(kept func(int) bool) {
	at := -1
	*l.of = slices.DeleteFunc(*l.of, func(*T) bool {
		at++
		return !kept(at)
	})
}

func (l list[T]) claims(visit func(*[]internal.KeyValue)) {
	for _, item := range *l.of {
		l.itemClaims(item, visit)
	}
}

func (l list[T]) traces(visit func(internal.TraceID)) {
	for _, item := range *l.of {
		l.itemTraces(item, visit)
	}
}

type traces struct {
	*internal.ExportTraceServiceRequest
}

var spanParts = &parts[internal.Span]{
	itemClaims: func(span *internal.Span, visit func(*[]internal.KeyValue)) { visit(&span.Attributes) },
	itemTraces: func(span *internal.Span, visit func(internal.TraceID)) { visit(span.TraceId) },
}

func readTraces(body []byte) (request, error) {
	request := ptraceotlp.NewExportRequest()
	err := request.UnmarshalProto(body)
	return traces{internal.GetTracesOrig(internal.TracesWrapper(request.Traces()))}, err
}

func (r traces) entries() []entry {
	var entries []entry
	for _, one := range r.ResourceSpans {
		var scopes []scope
		for _, of := range one.ScopeSpans {
			scopes = append(scopes, scope{&of.Scope, list[internal.Span]{&of.Spans, spanParts}})
		}
		entries = append(entries, entry{&one.Resource, scopes})
	}
	return entries
}

func (r traces) dropEmpty() {
	r.ResourceSpans = slices.DeleteFunc(r.ResourceSpans, func(one *internal.ResourceSpans) bool {
		one.ScopeSpans = slices.DeleteFunc(one.ScopeSpans, func(of *internal.ScopeSpans) bool { return len(of.Spans) == 0 })
		return len(one.ScopeSpans) == 0
	})
}

func (r traces) dictionary() *internal.ProfilesDictionary { return nil }

type logs struct {
	*internal.ExportLogsServiceRequest
}

var recordParts = &parts[internal.LogRecord]{
	itemClaims: func(record *internal.LogRecord, visit func(*[]internal.KeyValue)) { visit(&record.Attributes) },
	itemTraces: func(record *internal.LogRecord, visit func(internal.TraceID)) { visit(record.TraceId) },
}

func readLogs(body []byte) (request, error) {
	request := plogotlp.NewExportRequest()
	err := request.UnmarshalProto(body)
	return logs{internal.GetLogsOrig(internal.LogsWrapper(request.Logs()))}, err
}

func (r logs) entries() []entry {
	var entries []entry
	for _, one := range r.ResourceLogs {
		var scopes []scope
		for _, of := range one.ScopeLogs {
			scopes = append(scopes, scope{&of.Scope, list[internal.LogRecord]{&of.LogRecords, recordParts}})
		}
		entries = append(entries, entry{&one.Resource, scopes})
	}
	return entries
}

func (r logs) dropEmpty() {
	r.ResourceLogs = slices.DeleteFunc(r.ResourceLogs, func(one *internal.ResourceLogs) bool {
		one.ScopeLogs = slices.DeleteFunc(one.ScopeLogs, func(of *internal.ScopeLogs) bool { return len(of.LogRecords) == 0 })
		return len(one.ScopeLogs) == 0
	})
}

func (r logs) dictionary() *internal.ProfilesDictionary { return nil }

type metrics struct {
	*internal.ExportMetricsServiceRequest
}

var metricParts = &parts[internal.Metric]{
	itemClaims: func(metric *internal.Metric, visit func(*[]internal.KeyValue)) {
		visit(&metric.Metadata)
		points(metric, func(attributes *[]internal.KeyValue, exemplars []internal.Exemplar) {
			visit(attributes)
			for at := range exemplars {
				visit(&exemplars[at].FilteredAttributes)
			}
		})
	},
	itemTraces: func(metric *internal.Metric, visit func(internal.TraceID)) {
		points(metric, func(_ *[]internal.KeyValue, exemplars []internal.Exemplar) {
			for at := range exemplars {
				visit(exemplars[at].TraceId)
			}
		})
	},
}

// points visits the data points of a metric, of whatever kind it is.
func points(metric *internal.Metric, visit func(*[]internal.KeyValue, []internal.Exemplar)) {
	switch data := metric.Data.(type) {
	case *internal.Metric_Gauge:
		for _, point := range data.Gauge.DataPoints {
			visit(&point.Attributes, point.Exemplars)
		}
	case *internal.Metric_Sum:
		for _, point := range data.Sum.DataPoints {
			visit(&point.Attributes, point.Exemplars)
		}
	case *internal.Metric_Histogram:
		for _, point := range data.Histogram.DataPoints {
			visit(&point.Attributes, point.Exemplars)
		}
	case *internal.Metric_ExponentialHistogram:
		for _, point := range data.ExponentialHistogram.DataPoints {
			visit(&point.Attributes, point.Exemplars)
		}
	case *internal.Metric_Summary:
		for _, point := range data.Summary.DataPoints {
			visit(&point.Attributes, nil)
		}
	}
}

func readMetrics(body []byte) (request, error) {
	request := pmetricotlp.NewExportRequest()
	err := request.UnmarshalProto(body)
	return metrics{internal.GetMetricsOrig(internal.MetricsWrapper(request.Metrics()))}, err
}

func (r metrics) entries() []entry {
	var entries []entry
	for _, one := range r.ResourceMetrics {
		var scopes []scope
		for _, of := range one.ScopeMetrics {
			scopes = append(scopes, scope{&of.Scope, list[internal.Metric]{&of.Metrics, metricParts}})
		}
		entries = append(entries, entry{&one.Resource, scopes})
	}
	return entries
}

func (r metrics) dropEmpty() {
	r.ResourceMetrics = slices.DeleteFunc(r.ResourceMetrics, func(one *internal.ResourceMetrics) bool {
		one.ScopeMetrics = slices.DeleteFunc(one.ScopeMetrics, func(of *internal.ScopeMetrics) bool { return len(of.Metrics) == 0 })
		return len(one.ScopeMetrics) == 0
	})
}

func (r metrics) dictionary() *internal.ProfilesDictionary { return nil }

type profiles struct {
	*internal.ExportProfilesServiceRequest
}

// A profile has no attributes and no trace of its own: both stand in the dictionary.
var profileParts = &parts[internal.Profile]{
	itemClaims: func(*internal.Profile, func(*[]internal.KeyValue)) {},
	itemTraces: func(*internal.Profile, func(internal.TraceID)) {},
}

func readProfiles(body []byte) (request, error) {
	request := pprofileotlp.NewExportRequest()
	err := request.UnmarshalProto(body)
	return profiles{internal.GetProfilesOrig(internal.ProfilesWrapper(request.Profiles()))}, err
}

func readRawProfiles(body []byte) (request, error) {
	request := internal.NewExportProfilesServiceRequest()
	err := request.UnmarshalProto(body)
	return profiles{request}, err
}

func (r profiles) entries() []entry {
	var entries []entry
	for _, one := range r.ResourceProfiles {
		var scopes []scope
		for _, of := range one.ScopeProfiles {
			scopes = append(scopes, scope{&of.Scope, list[internal.Profile]{&of.Profiles, profileParts}})
		}
		entries = append(entries, entry{&one.Resource, scopes})
	}
	return entries
}

func (r profiles) dropEmpty() {
	r.ResourceProfiles = slices.DeleteFunc(r.ResourceProfiles, func(one *internal.ResourceProfiles) bool {
		one.ScopeProfiles = slices.DeleteFunc(one.ScopeProfiles, func(of *internal.ScopeProfiles) bool { return len(of.Profiles) == 0 })
		return len(one.ScopeProfiles) == 0
	})
}

func (r profiles) dictionary() *internal.ProfilesDictionary { return &r.Dictionary }
