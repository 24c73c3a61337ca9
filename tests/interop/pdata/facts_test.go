package main

// How the Collector's codec reads what the wire format leaves open. Each fact is why the gateway
// has a rule (the rule stands beside it); when one of these tests fails after an update of pdata,
// that rule has to be thought over. README.md has them as a table.

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"go.opentelemetry.io/collector/pdata/internal"
)

// length writes a length-delimited field.
func length(number uint64, content ...[]byte) []byte {
	joined := slices.Concat(content...)
	return slices.Concat(binary.AppendUvarint(nil, number<<3|2), binary.AppendUvarint(nil, uint64(len(joined))), joined)
}

// varint writes a varint field.
func varint(number, value uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, number<<3), value)
}

func text(number uint64, content string) []byte { return length(number, []byte(content)) }

// span wraps a span's fields into a whole request.
func span(fields ...[]byte) []byte { return length(1, length(2, length(2, fields...))) }

// spanOf reads a request's first span.
func spanOf(t *testing.T, body []byte) *internal.Span {
	t.Helper()
	request, err := readTraces(body)
	if err != nil {
		t.Fatal(err)
	}
	return request.(traces).ResourceSpans[0].ScopeSpans[0].Spans[0]
}

func refused(t *testing.T, read func([]byte) (request, error), body []byte) {
	t.Helper()
	if _, err := read(body); err == nil {
		t.Fatalf("%x is read", body)
	}
}

// A message that comes twice is merged. Rule: every rule is applied to every occurrence.
func TestSingularMessagesMerge(t *testing.T) {
	request, err := readTraces(length(1,
		length(1, length(1, text(1, "a")), varint(2, 3)),
		length(1, length(1, text(1, "b"))),
	))
	if err != nil {
		t.Fatal(err)
	}
	resource := request.entries()[0].resource
	if len(resource.Attributes) != 2 || resource.DroppedAttributesCount != 3 {
		t.Fatalf("%+v", resource)
	}
	// So does the one AnyValue of a KeyValue: an empty one does not unset it.
	value := spanOf(t, span(length(9, length(2, text(1, "x")), length(2)))).Attributes[0].Value.Value
	if value.(*internal.AnyValue_StringValue).StringValue != "x" {
		t.Fatal(value)
	}
}

// A message that is a member of a oneof is replaced and not merged, which is not what the format
// says and prost does. Rule: refused if it comes with any other member.
func TestMessagesInOneofsAreReplaced(t *testing.T) {
	element := length(1, text(1, "x"))
	value := spanOf(t, span(length(9, length(2, length(5, element, element), length(5, element))))).Attributes[0].Value.Value
	if len(value.(*internal.AnyValue_ArrayValue).ArrayValue.Values) != 1 {
		t.Fatal("merged")
	}
	point := length(1)
	request, err := readMetrics(length(1, length(2, length(2, length(5, point, point), length(5, point)))))
	if err != nil {
		t.Fatal(err)
	}
	gauge := request.(metrics).ResourceMetrics[0].ScopeMetrics[0].Metrics[0].Data.(*internal.Metric_Gauge).Gauge
	if len(gauge.DataPoints) != 1 {
		t.Fatal("merged")
	}
}

// Of different members of a oneof, and of a scalar that comes twice, the last one counts. Rule: the
// last key is the key; each trace id has to be the expected one.
func TestTheLastScalarCounts(t *testing.T) {
	one := spanOf(t, span(
		length(1, bytes.Repeat([]byte{1}, 16)), length(1, bytes.Repeat([]byte{2}, 16)),
		length(9, text(1, "a"), text(1, "b"), length(2, text(1, "x"), varint(3, 7))),
	))
	if one.TraceId[0] != 2 || one.Attributes[0].Key != "b" {
		t.Fatalf("%+v", one)
	}
	if one.Attributes[0].Value.Value.(*internal.AnyValue_IntValue).IntValue != 7 {
		t.Fatal("not the last member")
	}
}

// An empty id unsets one that came before it; of any other length it ends the whole request. Rule:
// an empty id is of no trace; other lengths are refused, in links too.
func TestIds(t *testing.T) {
	id := bytes.Repeat([]byte{1}, 16)
	if one := spanOf(t, span(length(1, id), length(1))); !one.TraceId.IsEmpty() {
		t.Fatal("an empty id does not unset")
	}
	refused(t, readTraces, span(length(1, id[:15])))
	refused(t, readTraces, span(length(2, id[:7])))
	refused(t, readTraces, span(length(13, length(1, id[:8]))))
	refused(t, readLogs, span(length(9, id[:8])))
}

// Repeated scalars are read packed and one by one, and add up. Rule: both forms are let through,
// and a packed one must end where its last number ends.
func TestPackedAndUnpacked(t *testing.T) {
	histogram := func(point ...[]byte) []byte {
		return length(1, length(2, length(2, length(9, length(1, point...)))))
	}
	bound := binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.5))
	count := binary.LittleEndian.AppendUint64(nil, 4)
	fixed := func(number byte, value []byte) []byte { return slices.Concat([]byte{number<<3 | 1}, value) }
	request, err := readMetrics(histogram(length(6, count, count), fixed(6, count), length(7, bound), fixed(7, bound)))
	if err != nil {
		t.Fatal(err)
	}
	point := request.(metrics).ResourceMetrics[0].ScopeMetrics[0].Metrics[0].Data.(*internal.Metric_Histogram).Histogram.DataPoints[0]
	if len(point.BucketCounts) != 3 || len(point.ExplicitBounds) != 2 {
		t.Fatalf("%+v", point)
	}
	refused(t, readMetrics, histogram(length(6, count, count[:7])))
	refused(t, readMetrics, histogram(varint(6, 4)))
	refused(t, readMetrics, length(1, length(2, length(2, length(10, length(1, length(8, length(2, []byte{0x80}))))))))
}

// Ten bytes of a varint are read, bits past 64 are dropped in silence, and eleven bytes are refused.
// Rule: over-long ones are decoded, those with bits past 64 are refused.
func TestVarints(t *testing.T) {
	long := func(last ...byte) []byte {
		return span(slices.Concat([]byte{10 << 3, 0x85}, bytes.Repeat([]byte{0x80}, 8), last))
	}
	if one := spanOf(t, long(0)); one.DroppedAttributesCount != 5 {
		t.Fatalf("%+v", one)
	}
	if one := spanOf(t, long(0x7E)); one.DroppedAttributesCount != 5 {
		t.Fatalf("%+v", one)
	}
	refused(t, readTraces, long(0x80, 0))
	// A number of 32 bits is cut down to them, so 2^32 as key_strindex is none.
	if one := spanOf(t, span(length(9, varint(3, 1<<32)))); one.Attributes[0].KeyStrindex != 0 {
		t.Fatalf("%+v", one)
	}
}

// A tag is cut down to a field number of 32 bits, so one of 36 bits is another field here than for
// a reader that does not cut. Rule: tags past 32 bits are refused.
func TestTags(t *testing.T) {
	tag := binary.AppendUvarint(nil, 1<<35|5<<3|2)
	if one := spanOf(t, span(tag, []byte{1, 'n'})); one.Name != "n" {
		t.Fatalf("%+v", one)
	}
	refused(t, readTraces, []byte{0x02, 0x00})
	refused(t, readTraces, binary.AppendUvarint(nil, 1<<34|2))
}

// An unknown group ends, for this reader, after the first field in it: the rest is read as fields
// of the message around it. Only an empty one is passed over, and not at a message's end. Rule:
// groups are refused.
func TestGroups(t *testing.T) {
	start := binary.AppendUvarint(nil, 99<<3|3)
	end := binary.AppendUvarint(nil, 99<<3|4)
	if one := spanOf(t, span(start, varint(1, 1), text(5, "out of the group"))); one.Name != "out of the group" {
		t.Fatalf("%+v", one)
	}
	refused(t, readTraces, span(start, varint(1, 1), end))
	if one := spanOf(t, span(start, end, text(5, "after an empty group"))); one.Name != "after an empty group" {
		t.Fatalf("%+v", one)
	}
	refused(t, readTraces, span(start, end))
	refused(t, readTraces, span(end))
}

// A known field in another wire type, and wire types 6 and 7, end the whole request. Rule: the same.
func TestWireTypes(t *testing.T) {
	refused(t, readTraces, span(varint(5, 1)))
	refused(t, readTraces, span(text(6, "x")))
	refused(t, readTraces, span([]byte{99<<3&0x7F | 0x86, 6, 0}))
	refused(t, readTraces, varint(1, 1))
}

// Field 1000 is read as scopes where there are no others, and forgotten where there are; profiles
// have no such field. Rule: refused.
func TestField1000(t *testing.T) {
	old := length(1000, length(2))
	for _, read := range []func([]byte) (request, error){readTraces, readMetrics, readLogs} {
		request, err := read(length(1, old))
		if err != nil || len(request.entries()[0].scopes) != 1 {
			t.Fatal(err, request)
		}
		request, err = read(length(1, old, length(2)))
		if err != nil || len(request.entries()[0].scopes) != 1 || request.entries()[0].scopes[0].items.count() != 0 {
			t.Fatal(err, request)
		}
	}
	request, err := readProfiles(length(1, old))
	if err != nil || len(request.entries()[0].scopes) != 0 {
		t.Fatal(err, request)
	}
}

// Strings are not looked at for UTF-8, unknown fields are forgotten, and an empty message is an
// element like any other. Rule: strings must be UTF-8, because other readers refuse the rest.
func TestLaxities(t *testing.T) {
	known, unknown := spanOf(t, span(text(5, "\xC3\x28"))), spanOf(t, span(text(5, "\xC3\x28"), text(99, "x")))
	if known.Name != "\xC3\x28" || !bytes.Equal(written(known), written(unknown)) {
		t.Fatalf("%+v %+v", known, unknown)
	}
	request, err := readTraces(slices.Concat(length(1), length(1, length(2), length(2, length(2)))))
	if err != nil || len(request.entries()) != 2 || request.entries()[1].scopes[1].items.count() != 1 {
		t.Fatal(err, request)
	}
}

// AnyValues may be nested without end. Rule: 32 levels.
func TestNestingHasNoEnd(t *testing.T) {
	value := text(1, "x")
	for range 10_000 {
		value = length(5, length(1, value))
	}
	spanOf(t, span(length(9, length(2, value))))
}

// In traces, metrics and logs key_strindex is kept and shown to nobody. In profiles a resource's and
// a scope's is looked up in the string table, all dictionaries of a request taken together, wherever
// they stand, and the request is refused where it has a key too or the place does not exist. Rule:
// without a dictionary it goes; with one it counts as the key that it names.
func TestKeyStrindex(t *testing.T) {
	if one := spanOf(t, span(length(9, varint(3, 1)))); one.Attributes[0].KeyStrindex != 1 {
		t.Fatalf("%+v", one)
	}
	dictionaries := slices.Concat(length(2, text(5, "")), length(2, text(5, "ci.job.id"), text(5, "b")))
	resource := func(attribute ...[]byte) []byte {
		return slices.Concat(length(1, length(1, length(1, attribute...))), dictionaries)
	}
	request, err := readProfiles(resource(varint(3, 1)))
	if err != nil || request.entries()[0].resource.Attributes[0].Key != "ci.job.id" {
		t.Fatal(err, request)
	}
	refused(t, readProfiles, resource(text(1, "a"), varint(3, 2)))
	refused(t, readProfiles, resource(varint(3, 3)))
	refused(t, readProfiles, resource(varint(3, math.MaxUint64)))
	// The same holds for a string_value_strindex, however deep in the value.
	refused(t, readProfiles, resource(text(1, "a"), length(2, varint(8, 3))))
	refused(t, readProfiles, resource(text(1, "a"), length(2, length(5, length(1, varint(8, 3))))))
	request, err = readProfiles(resource(text(1, "a"), length(2, length(6, length(1, varint(3, 2))))))
	if err != nil {
		t.Fatal(err)
	}
	list := request.entries()[0].resource.Attributes[0].Value.Value.(*internal.AnyValue_KvlistValue).KvlistValue
	if list.Values[0].Key != "b" {
		t.Fatalf("%+v", list)
	}
	// Place 0 of an absent table is no place for a value, though it is none for a key.
	refused(t, readProfiles, length(1, length(1, length(1, length(2, varint(8, 0))))))
}

// The committed seeds are what the generator writes, and the Collector reads them.
func TestSeeds(t *testing.T) {
	for name, seed := range seeds() {
		for _, signal := range signals {
			if !bytes.HasPrefix([]byte(name), []byte(signal.name)) {
				continue
			}
			if _, err := signal.door(seed); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
