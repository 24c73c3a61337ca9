package main

// The judge: what must hold for one case, in terms of what the Collector reads. It never asks
// whether the gateway was right to refuse; that it refused nothing that is harmless is other tests'
// business.

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/internal"
)

// settings are the same for all cases of one stream.
type settings struct {
	Keys     []string    `json:"keys"`
	Prefixes []string    `json:"prefixes"`
	Verified []attribute `json:"verified"`
	// The expected trace, in hex.
	Trace string `json:"trace"`
	// Whether ScopeX and ResourceX without items are left out.
	DropEmpty bool `json:"drop_empty"`
	// The service names that a resource of flagServices may have.
	Services []string `json:"services"`
}

// attribute has an int or a string.
type attribute struct {
	Key string  `json:"key"`
	Int *int64  `json:"int"`
	Str *string `json:"str"`
}

type rules struct {
	keys      map[string]bool
	prefixes  []string
	verified  []internal.KeyValue
	trace     internal.TraceID
	dropEmpty bool
	services  []string
}

func (s *settings) rules() (*rules, error) {
	rules := &rules{keys: map[string]bool{}, dropEmpty: s.DropEmpty, services: s.Services}
	for _, key := range s.Keys {
		rules.keys[fold(key)] = true
	}
	for _, prefix := range s.Prefixes {
		rules.prefixes = append(rules.prefixes, fold(prefix))
	}
	for _, one := range s.Verified {
		attribute := internal.KeyValue{Key: one.Key}
		switch {
		case one.Int != nil:
			attribute.Value.Value = &internal.AnyValue_IntValue{IntValue: *one.Int}
		case one.Str != nil:
			attribute.Value.Value = &internal.AnyValue_StringValue{StringValue: *one.Str}
		default:
			return nil, fmt.Errorf("the verified attribute %s has no value", one.Key)
		}
		rules.verified = append(rules.verified, attribute)
	}
	trace, err := hex.DecodeString(s.Trace)
	if err != nil || len(trace) != len(rules.trace) {
		return nil, fmt.Errorf("%q is no trace id", s.Trace)
	}
	copy(rules.trace[:], trace)
	return rules, nil
}

var separators = regexp.MustCompile(`[^A-Za-z0-9]+`)

// fold makes all spellings of a key one: ASCII lower case, and one dot for each run of anything else than
// letters and digits.
func fold(key string) string {
	// Bytes, not letters: a key need not be UTF-8 for its reader.
	latin := make([]rune, len(key))
	for at := range len(key) {
		latin[at] = rune(key[at])
	}
	return strings.ToLower(separators.ReplaceAllString(string(latin), "."))
}

func (r *rules) protected(key string) bool {
	folded := fold(key)
	return r.keys[folded] || slices.ContainsFunc(r.prefixes, func(prefix string) bool {
		return strings.HasPrefix(folded, prefix)
	})
}

// verdict says what else there is to count.
type verdict int

const (
	nothing verdict = iota
	stricter
	leftToCollector
)

func (r *rules) judge(one *testCase) (verdict verdict, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("pdata or the judge panics: %v", fault)
		}
	}()
	if !one.is(flagAccepted) {
		if _, err := one.signal.door(one.in); err == nil {
			verdict = stricter
		}
		return verdict, nil
	}
	return r.judgeAccepted(one)
}

func (r *rules) judgeAccepted(one *testCase) (verdict, error) {
	before, brokenBefore := one.signal.raw(one.in)
	after, brokenAfter := one.signal.raw(one.out)
	if brokenBefore != nil && !one.is(flagShallow) {
		return nothing, fmt.Errorf("accepted, but the Collector does not read what came in: %w", brokenBefore)
	}
	if brokenBefore == nil && brokenAfter != nil {
		return nothing, fmt.Errorf("the Collector read what came in, but not what leaves: %w", brokenAfter)
	}
	if brokenAfter != nil {
		return leftToCollector, nil
	}
	taken, err := one.signal.door(one.out)
	if err != nil {
		return nothing, fmt.Errorf("the Collector's receiver does not take what leaves: %w", err)
	}
	if err := r.vouchedFor(taken); err != nil {
		return nothing, err
	} else if err := r.ofTheServices(one, taken); err != nil {
		return nothing, fmt.Errorf("of what leaves, %w", err)
	}
	if taken, err := one.signal.door(one.in); err == nil {
		if err := r.ofTheServices(one, taken); err != nil {
			return nothing, fmt.Errorf("of what came in, %w", err)
		}
	}
	if err := r.ofTheTrace(one, after); err != nil {
		return nothing, fmt.Errorf("of what leaves, %w", err)
	}
	if brokenBefore != nil {
		return leftToCollector, nil
	}
	if err := r.ofTheTrace(one, before); err != nil {
		return nothing, fmt.Errorf("of what came in, %w", err)
	}
	return nothing, r.unchanged(one, before, after)
}

// vouchedFor holds what leaves, as a receiver of the Collector reads it, against the verified attributes.
func (r *rules) vouchedFor(request request) error {
	verified := marshalled(r.verified)
	for at, entry := range request.entries() {
		var under []internal.KeyValue
		for _, attribute := range entry.resource.Attributes {
			if attribute.KeyStrindex != 0 {
				return fmt.Errorf("resource %d keeps a key_strindex that the receiver does not resolve", at)
			}
			if r.protected(attribute.Key) {
				under = append(under, attribute)
			}
		}
		if !bytes.Equal(marshalled(under), verified) {
			return fmt.Errorf("resource %d has %d attributes under protected keys, not the %d verified ones: %v", at, len(under), len(r.verified), under)
		}
		for _, entity := range entry.resource.EntityRefs {
			if slices.ContainsFunc(entity.IdKeys, r.protected) || slices.ContainsFunc(entity.DescriptionKeys, r.protected) {
				return fmt.Errorf("an entity_ref of resource %d names a protected key", at)
			}
		}
	}
	return nil
}

// ofTheServices holds the service name of each resource against those that its sender may use.
func (r *rules) ofTheServices(one *testCase, request request) error {
	if !one.is(flagServices) {
		return nil
	}
	for at, entry := range request.entries() {
		named := false
		for _, attribute := range entry.resource.Attributes {
			if fold(attribute.Key) != "service.name" {
				continue
			}
			name, isString := attribute.Value.Value.(*internal.AnyValue_StringValue)
			if !isString || !slices.Contains(r.services, name.StringValue) {
				return fmt.Errorf("resource %d has the service name %v", at, attribute.Value.Value)
			}
			named = named || attribute.Key == "service.name"
		}
		if !named {
			return fmt.Errorf("resource %d has no service name", at)
		}
	}
	return nil
}

// ofTheTrace holds every trace id against the gate's word.
func (r *rules) ofTheTrace(one *testCase, request request) error {
	if !one.is(flagClean) {
		return nil
	}
	foreign := 0
	look := func(id internal.TraceID) {
		if id != r.trace && (one.signal.traceRequired || !id.IsEmpty()) {
			foreign++
		}
	}
	for _, entry := range request.entries() {
		for _, scope := range entry.scopes {
			scope.items.traces(look)
		}
	}
	if dictionary := request.dictionary(); dictionary != nil {
		for _, link := range dictionary.LinkTable {
			look(link.TraceId)
		}
	}
	if foreign > 0 {
		return fmt.Errorf("%d trace ids are foreign, and the gate said that none is", foreign)
	}
	return nil
}

// unchanged edits what came in as the rules say and holds the result against what leaves, byte by
// byte after both were written by pdata.
func (r *rules) unchanged(one *testCase, before, after request) error {
	frameBefore, err := readFrame(one.signal, one.in)
	if err != nil {
		return fmt.Errorf("frame of what came in: %w", err)
	}
	if frameBefore.deprecated > 0 {
		return errors.New("accepted with field 1000")
	}
	if one.is(flagTransparent) && frameBefore.unknown > 0 {
		return errors.New("an unknown field outside the items passes in transparent mode")
	}
	frameAfter, err := readFrame(one.signal, one.out)
	if err != nil {
		return fmt.Errorf("frame of what leaves: %w", err)
	}
	if err := frameAfter.outgoing(); err != nil {
		return err
	}
	kept := keptItems(frameBefore, one)
	if !one.is(flagStripItems) {
		if err := sameBytes(frameBefore, frameAfter, kept); err != nil {
			return err
		}
	}
	if err := r.edit(one, before, kept); err != nil {
		return err
	}
	want, got := written(before), written(after)
	if !bytes.Equal(want, got) {
		return fmt.Errorf("what leaves differs from what came in by more than the rules allow\nexpected %x\n  leaves %x", want, got)
	}
	return nil
}

// keptItems says which items stay: those not too long, as far as the budget goes.
func keptItems(frame *frame, one *testCase) (kept [][][]bool) {
	budget := one.budget
	for _, entry := range frame.items {
		var scopes [][]bool
		for _, scope := range entry {
			var items []bool
			for _, item := range scope {
				keep := uint64(len(item)) <= one.maxItemSize && budget > 0
				if keep {
					budget--
				}
				items = append(items, keep)
			}
			scopes = append(scopes, items)
		}
		kept = append(kept, scopes)
	}
	return kept
}

// sameBytes holds the kept items against those that leave: byte for byte, in their order.
func sameBytes(before, after *frame, kept [][][]bool) error {
	var want [][]byte
	for at, entry := range before.items {
		for in, scope := range entry {
			for item, content := range scope {
				if kept[at][in][item] {
					want = append(want, content)
				}
			}
		}
	}
	if !slices.EqualFunc(want, slices.Concat(slices.Concat(after.items...)...), bytes.Equal) {
		return errors.New("the items that leave are not, byte for byte, those that came in")
	}
	return nil
}

// edit changes what came in as the rules say.
func (r *rules) edit(one *testCase, request request, kept [][][]bool) error {
	forged := func(attribute internal.KeyValue) bool { return r.forged(request.dictionary(), &attribute) }
	strip := func(attributes *[]internal.KeyValue) { *attributes = slices.DeleteFunc(*attributes, forged) }
	entries := request.entries()
	if len(entries) != len(kept) {
		return fmt.Errorf("pdata reads %d ResourceX, on the wire are %d", len(entries), len(kept))
	}
	for at, entry := range entries {
		r.editResource(entry.resource, strip)
		if len(entry.scopes) != len(kept[at]) {
			return fmt.Errorf("pdata reads %d ScopeX, on the wire are %d", len(entry.scopes), len(kept[at]))
		}
		for in, scope := range entry.scopes {
			if scope.items.count() != len(kept[at][in]) {
				return fmt.Errorf("pdata reads %d items, on the wire are %d", scope.items.count(), len(kept[at][in]))
			}
			scope.items.keep(func(item int) bool { return kept[at][in][item] })
			if one.is(flagStripScope) {
				strip(&scope.scope.Attributes)
			}
			if one.is(flagStripItems) {
				scope.items.claims(strip)
			}
		}
	}
	if dictionary := request.dictionary(); dictionary != nil && one.is(flagStripItems) {
		// Profiles name attributes by their place, so that one that goes leaves its place empty.
		for at, attribute := range dictionary.AttributeTable {
			if r.forgedUnit(dictionary, attribute) {
				dictionary.AttributeTable[at] = &internal.KeyValueAndUnit{}
			}
		}
	}
	if r.dropEmpty {
		request.dropEmpty()
	}
	return nil
}

func (r *rules) editResource(resource *internal.Resource, strip func(*[]internal.KeyValue)) {
	strip(&resource.Attributes)
	resource.Attributes = append(resource.Attributes, r.verified...)
	resource.EntityRefs = slices.DeleteFunc(resource.EntityRefs, func(entity *internal.EntityRef) bool {
		entity.DescriptionKeys = slices.DeleteFunc(entity.DescriptionKeys, r.protected)
		return slices.ContainsFunc(entity.IdKeys, r.protected)
	})
}

// forged says whether an attribute goes: its key is protected, or stands in a dictionary under a
// place that is protected, or that no dictionary has.
func (r *rules) forged(dictionary *internal.ProfilesDictionary, attribute *internal.KeyValue) bool {
	if r.protected(attribute.Key) {
		return true
	}
	at := int(attribute.KeyStrindex)
	if at == 0 {
		return false
	}
	return dictionary == nil || at < 0 || at >= len(dictionary.StringTable) || r.protected(dictionary.StringTable[at])
}

// forgedUnit is the same for an attribute that has no key but the string at its place.
func (r *rules) forgedUnit(dictionary *internal.ProfilesDictionary, attribute *internal.KeyValueAndUnit) bool {
	return r.forged(dictionary, &internal.KeyValue{KeyStrindex: attribute.KeyStrindex})
}

func marshalled(attributes []internal.KeyValue) []byte {
	return written(&internal.Resource{Attributes: attributes})
}

func written(message interface {
	SizeProto() int
	MarshalProto([]byte) int
}) []byte {
	bytes := make([]byte, message.SizeProto())
	message.MarshalProto(bytes)
	return bytes
}
