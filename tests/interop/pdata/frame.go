package main

// The frame of a request: all that stands outside the items, and the items as bytes. pdata forgets
// which fields it did not know and how long an item was, so this reads the wire once more, with
// pdata's own functions for tags and lengths.

import (
	"fmt"

	"go.opentelemetry.io/collector/pdata/internal/proto"
)

// field is one field of a message.
type field struct {
	number  int32
	content []byte // of a length-delimited one, else nil
	isLen   bool
}

// fields calls visit with each field of a message.
func fields(message []byte, visit func(field) error) error {
	for at := 0; at < len(message); {
		number, wire, next, err := proto.ConsumeTag(message, at)
		if err != nil {
			return err
		}
		one := field{number: number, isLen: wire == proto.WireTypeLen}
		if one.isLen {
			var length int
			if length, next, err = proto.ConsumeLen(message, next); err != nil {
				return err
			}
			one.content = message[next-length : next]
		} else if next, err = proto.ConsumeUnknown(message, next, wire); err != nil {
			return err
		}
		if err := visit(one); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// Numbers that mean the same in every signal.
const (
	numberEntry           = 1 // of the request
	numberDictionary      = 2 // of a request of profiles
	numberResource        = 1 // of ResourceX
	numberScopes          = 2
	numberEntityRefs      = 3 // of Resource
	numberScope           = 1 // of ScopeX
	numberItems           = 2
	lastOfEntry           = 3 // schema_url
	lastOfScopes          = 3 // schema_url
	lastOfResource        = 3 // entity_refs
	lastOfEntityRef       = 4 // description_keys
	lastOfScope           = 4 // dropped_attributes_count
	numberDeprecatedScope = 1000
)

// frame is what fields found.
type frame struct {
	signal *signal
	// Fields that OTLP does not have.
	unknown int
	// Entries that have not exactly one resource.
	unlikeOne int
	// Field 1000.
	deprecated int
	// The bytes of each item, by entry and by scope.
	items [][][][]byte
}

// readFrame reads the frame of a request that pdata has read before.
func readFrame(signal *signal, body []byte) (*frame, error) {
	found := &frame{signal: signal}
	err := fields(body, func(one field) error {
		switch {
		case one.number == numberEntry:
			return found.entry(one.content)
		case one.number != numberDictionary || !signal.dictionary:
			found.unknown++
		}
		return nil
	})
	return found, err
}

func (f *frame) entry(content []byte) error {
	resources := 0
	var scopes [][][]byte
	err := fields(content, func(one field) error {
		switch one.number {
		case numberResource:
			resources++
			return f.resource(one.content)
		case numberScopes:
			items, err := f.scopes(one.content)
			scopes = append(scopes, items)
			return err
		case numberDeprecatedScope:
			// Profiles came too late to have it.
			if !f.signal.dictionary {
				f.deprecated++
				return nil
			}
		}
		return f.known(one, lastOfEntry)
	})
	if resources != 1 {
		f.unlikeOne++
	}
	f.items = append(f.items, scopes)
	return err
}

func (f *frame) resource(content []byte) error {
	return fields(content, func(one field) error {
		if one.number == numberEntityRefs {
			return fields(one.content, func(one field) error { return f.known(one, lastOfEntityRef) })
		}
		return f.known(one, lastOfResource)
	})
}

func (f *frame) scopes(content []byte) (items [][]byte, err error) {
	err = fields(content, func(one field) error {
		switch one.number {
		case numberScope:
			return fields(one.content, func(one field) error { return f.known(one, lastOfScope) })
		case numberItems:
			items = append(items, one.content)
			return nil
		}
		return f.known(one, lastOfScopes)
	})
	return items, err
}

func (f *frame) known(one field, last int32) error {
	if one.number > last {
		f.unknown++
	}
	return nil
}

// outgoing says what is wrong with a frame that the gateway has written.
func (f *frame) outgoing() error {
	switch {
	case f.deprecated > 0:
		return fmt.Errorf("field %d leaves", numberDeprecatedScope)
	case f.unknown > 0:
		return fmt.Errorf("%d unknown fields leave outside the items", f.unknown)
	case f.unlikeOne > 0:
		return fmt.Errorf("%d ResourceX leave without exactly one resource", f.unlikeOne)
	}
	return nil
}
