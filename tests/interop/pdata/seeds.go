package main

// The seeds: for each signal and shape one request in which the Collector's own generator has set
// every field, dressed with keys and ids that the rules look at. They are committed; what is
// written here replaces them when pdata learns of new fields.

import (
	"bytes"
	"os"
	"path/filepath"

	"go.opentelemetry.io/collector/pdata/internal"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
)

// The trace that all seeds belong to.
var seedTrace = internal.TraceID(bytes.Repeat([]byte{0xAB}, 16))

func writeSeeds(directory string) error {
	for name, seed := range seeds() {
		if err := os.WriteFile(filepath.Join(directory, name+".bin"), seed, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func seeds() map[string][]byte {
	seeds := map[string][]byte{}

	traces := traces{internal.GenTestExportTraceServiceRequest()}
	for _, one := range traces.ResourceSpans {
		one.DeprecatedScopeSpans = nil
		for _, scope := range one.ScopeSpans {
			for _, span := range scope.Spans {
				span.TraceId = seedTrace
			}
		}
	}
	seeds["traces"] = dressed(traces)

	logs := logs{internal.GenTestExportLogsServiceRequest()}
	for _, one := range logs.ResourceLogs {
		one.DeprecatedScopeLogs = nil
	}
	seeds["logs"] = dressed(logs)

	for name, data := range map[string]any{
		"gauge":                 &internal.Metric_Gauge{Gauge: internal.GenTestGauge()},
		"sum":                   &internal.Metric_Sum{Sum: internal.GenTestSum()},
		"histogram":             &internal.Metric_Histogram{Histogram: internal.GenTestHistogram()},
		"exponential_histogram": &internal.Metric_ExponentialHistogram{ExponentialHistogram: internal.GenTestExponentialHistogram()},
		"summary":               &internal.Metric_Summary{Summary: internal.GenTestSummary()},
	} {
		metrics := metrics{internal.GenTestExportMetricsServiceRequest()}
		for _, one := range metrics.ResourceMetrics {
			one.DeprecatedScopeMetrics = nil
			for _, scope := range one.ScopeMetrics {
				for _, metric := range scope.Metrics {
					metric.Data = data
				}
			}
		}
		seeds["metrics-"+name] = dressed(metrics)
	}

	inline := profiles{internal.GenTestExportProfilesServiceRequest()}
	inline.Dictionary.StringTable = append([]string{""}, seedKeys...)
	for at := range inline.Dictionary.AttributeTable {
		inline.Dictionary.AttributeTable[at] = &internal.KeyValueAndUnit{KeyStrindex: int32(at % 3), UnitStrindex: 1}
	}
	seeds["profiles-inline"] = dressed(inline)

	// As the Collector's own exporters write them: all keys and strings are places in the dictionary.
	references := pprofileotlp.NewExportRequest()
	if err := references.UnmarshalProto(seeds["profiles-inline"]); err != nil {
		panic(err)
	}
	written, err := references.MarshalProto()
	if err != nil {
		panic(err)
	}
	seeds["profiles-references"] = written

	generated := internal.GenTestTraceID()
	for name, seed := range seeds {
		seeds[name] = bytes.ReplaceAll(seed, generated[:], seedTrace[:])
	}
	return seeds
}

// Keys: protected, disguised and honest.
var seedKeys = []string{"ci.job.id", "host.name", "Service_Name", "gitlab.cell-id", "http.status"}

// dressed sets attributes, and entities that name them, and writes the request.
func dressed(request request) []byte {
	for at, entry := range request.entries() {
		entry.resource.Attributes = attributes(at)
		entry.resource.EntityRefs = []*internal.EntityRef{
			{SchemaUrl: "s", Type: "job", IdKeys: []string{seedKeys[at%2]}, DescriptionKeys: []string{"host.name", "Service_Name"}},
			{Type: "host", IdKeys: []string{"host.name"}},
		}
		for in, scope := range entry.scopes {
			scope.scope.Attributes = attributes(in)
			scope.items.claims(func(claims *[]internal.KeyValue) { *claims = attributes(in) })
		}
	}
	return written(request)
}

func attributes(first int) (attributes []internal.KeyValue) {
	values := []any{
		&internal.AnyValue_IntValue{IntValue: -7},
		&internal.AnyValue_StringValue{StringValue: "text"},
		&internal.AnyValue_ArrayValue{ArrayValue: &internal.ArrayValue{Values: []internal.AnyValue{
			{Value: &internal.AnyValue_BoolValue{BoolValue: true}},
			{Value: &internal.AnyValue_DoubleValue{DoubleValue: 0.5}},
		}}},
		&internal.AnyValue_KvlistValue{KvlistValue: &internal.KeyValueList{Values: []internal.KeyValue{
			{Key: "ci.job.id", Value: internal.AnyValue{Value: &internal.AnyValue_BytesValue{BytesValue: []byte{0, 255}}}},
		}}},
		&internal.AnyValue_StringValue{},
	}
	for at := range 4 {
		at = (first + at) % len(seedKeys)
		attributes = append(attributes, internal.KeyValue{Key: seedKeys[at], Value: internal.AnyValue{Value: values[at]}})
	}
	return attributes
}
