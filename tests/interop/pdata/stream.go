package main

// The stream: how cases come in and verdicts go out. First one line of JSON, the settings; then
// batches, each a length (uint32, little endian, as all numbers) and so many bytes: a number of
// the batch (uint64) and cases to the end. A case is
//
//	signal (uint8) flags (uint8) max_item_size (uint64) budget (uint64)
//	length (uint32) and bytes of what came in, length (uint32) and bytes of what left
//
// For each batch one line of JSON comes back, in no particular order.

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
)

// What a case says of itself.
const (
	// The gateway accepted it and something left.
	flagAccepted = 1 << iota
	// The gate said that nothing in it is of another trace.
	flagClean
	// Protected keys are to be taken out of scopes, and of items, too.
	flagStripScope
	flagStripItems
	// The items were not read to the last byte: what is broken in them is left to the Collector.
	flagShallow
	// It would pass in transparent mode too, where what came in is what leaves.
	flagTransparent
	// Each resource names a service that its sender may use.
	flagServices
)

// More than this is no batch but a stream that lost its step.
const maxBatch = 256 << 20

type testCase struct {
	signal      *signal
	flags       uint8
	maxItemSize uint64
	budget      uint64
	in, out     []byte
}

func (c *testCase) is(flag uint8) bool { return c.flags&flag != 0 }

// report is the answer to one batch.
type report struct {
	Batch    uint64 `json:"batch"`
	Cases    int    `json:"cases"`
	Accepted int    `json:"accepted"`
	// Refused by the gateway, though the Collector would have read them.
	Stricter int `json:"stricter"`
	// Accepted unread in depth, and refused by the Collector.
	Left     int       `json:"left"`
	Failures []failure `json:"failures"`
}

type failure struct {
	Case int    `json:"case"`
	Why  string `json:"why"`
}

func serve(in *bufio.Reader, out io.Writer) error {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no settings: %w", err)
	}
	var settings settings
	if err := json.Unmarshal(line, &settings); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	rules, err := settings.rules()
	if err != nil {
		return err
	}

	// A batch lives for a few milliseconds: collecting less often costs memory that is there.
	debug.SetGCPercent(400)
	batches := make(chan []byte, runtime.GOMAXPROCS(0))
	reports := json.NewEncoder(out)
	var writing sync.Mutex
	var workers sync.WaitGroup
	var failed error
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for batch := range batches {
				report, err := rules.batch(batch)
				writing.Lock()
				if err == nil {
					err = reports.Encode(report)
				}
				failed = errors.Join(failed, err)
				writing.Unlock()
			}
		})
	}
	err = readBatches(in, batches)
	close(batches)
	workers.Wait()
	return errors.Join(err, failed)
}

func readBatches(in io.Reader, batches chan<- []byte) error {
	for {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		length := binary.LittleEndian.Uint32(head[:])
		if length > maxBatch {
			return fmt.Errorf("a batch of %d bytes", length)
		}
		batch := make([]byte, length)
		if _, err := io.ReadFull(in, batch); err != nil {
			return err
		}
		batches <- batch
	}
}

func (r *rules) batch(bytes []byte) (*report, error) {
	cursor := cursor{rest: bytes}
	report := &report{Batch: cursor.uint64(), Failures: []failure{}}
	for ; len(cursor.rest) > 0; report.Cases++ {
		number := cursor.uint8()
		one := testCase{
			flags:       cursor.uint8(),
			maxItemSize: cursor.uint64(),
			budget:      cursor.uint64(),
			in:          cursor.bytes(),
			out:         cursor.bytes(),
		}
		if cursor.err != nil {
			return nil, cursor.err
		}
		if int(number) >= len(signals) {
			return nil, fmt.Errorf("there is no signal %d", number)
		}
		one.signal = signals[number]
		verdict, err := r.judge(&one)
		if err != nil {
			report.Failures = append(report.Failures, failure{Case: report.Cases, Why: err.Error()})
		}
		if one.is(flagAccepted) {
			report.Accepted++
		}
		switch verdict {
		case stricter:
			report.Stricter++
		case leftToCollector:
			report.Left++
		}
	}
	return report, cursor.err
}

// cursor reads the fixed parts of a batch; past the end it gives zeros and remembers that it did.
type cursor struct {
	rest []byte
	err  error
}

func (c *cursor) take(length int) []byte {
	if length > len(c.rest) {
		c.err = io.ErrUnexpectedEOF
		c.rest = nil
		return make([]byte, min(length, 8))
	}
	taken := c.rest[:length:length]
	c.rest = c.rest[length:]
	return taken
}

func (c *cursor) uint8() uint8   { return c.take(1)[0] }
func (c *cursor) uint64() uint64 { return binary.LittleEndian.Uint64(c.take(8)) }
func (c *cursor) bytes() []byte  { return c.take(int(binary.LittleEndian.Uint32(c.take(4)))) }
