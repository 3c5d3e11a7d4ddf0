// SPDX-License-Identifier: Apache-2.0

// Package interop lets the official CloudEvents SDK read what headrace packs, and the other way
// round. HEADRACE_PEER names our side (tests/interop/peer.c).
package interop

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	format "github.com/cloudevents/sdk-go/binding/format/protobuf/v2"
	"github.com/cloudevents/sdk-go/binding/format/protobuf/v2/pb"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
)

var instant = time.Date(2026, 3, 29, 2, 30, 0, 123456000, time.UTC)

func peer(t *testing.T, verb string, input []byte) []byte {
	t.Helper()
	path := os.Getenv("HEADRACE_PEER")
	if path == "" {
		t.Fatal("HEADRACE_PEER is not set")
	}
	command := exec.Command(path, verb)
	command.Stdin = bytes.NewReader(input)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	output, err := command.Output()
	if err != nil {
		t.Fatalf("peer %s: %v: %s", verb, err, complaint.String())
	}
	return output
}

func uri(t *testing.T, text string) url.URL {
	t.Helper()
	parsed, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return *parsed
}

// An empty CloudEventBatch of the official cloudevents.proto, which the SDK's own package leaves
// out: one repeated field of the SDK's CloudEvent.
func newBatch(t *testing.T) (*dynamicpb.Message, protoreflect.FieldDescriptor) {
	t.Helper()
	element := (&pb.CloudEvent{}).ProtoReflect().Descriptor()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name:       proto.String("batch.proto"),
		Package:    proto.String("io.cloudevents.v1"),
		Syntax:     proto.String("proto3"),
		Dependency: []string{element.ParentFile().Path()},
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("CloudEventBatch"),
			Field: []*descriptorpb.FieldDescriptorProto{{
				Name:     proto.String("events"),
				Number:   proto.Int32(1),
				Label:    descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum(),
				Type:     descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(),
				TypeName: proto.String("." + string(element.FullName())),
			}},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	batch := file.Messages().ByName("CloudEventBatch")
	return dynamicpb.NewMessage(batch), batch.Fields().ByName("events")
}

func packBatch(t *testing.T, events []*pb.CloudEvent) []byte {
	t.Helper()
	batch, field := newBatch(t)
	list := batch.Mutable(field).List()
	for _, e := range events {
		list.Append(protoreflect.ValueOfMessage(e.ProtoReflect()))
	}
	packed, err := proto.Marshal(batch)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func unpackBatch(t *testing.T, packed []byte) []*pb.CloudEvent {
	t.Helper()
	batch, field := newBatch(t)
	if err := proto.Unmarshal(packed, batch); err != nil {
		t.Fatal(err)
	}
	if unknown := batch.GetUnknown(); len(unknown) != 0 {
		t.Errorf("fields unknown in a batch: %x", unknown)
	}
	var events []*pb.CloudEvent
	list := batch.Get(field).List()
	for i := 0; i < list.Len(); i++ {
		single, err := proto.Marshal(list.Get(i).Message().Interface())
		if err != nil {
			t.Fatal(err)
		}
		e := &pb.CloudEvent{}
		if err := proto.Unmarshal(single, e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// What headrace packs, as one batch message, the SDK reads.
func TestTheSDKReadsOurEvents(t *testing.T) {
	byID := map[string]*event.Event{}
	for _, packed := range unpackBatch(t, peer(t, "write", nil)) {
		if unknown := packed.ProtoReflect().GetUnknown(); len(unknown) != 0 {
			t.Errorf("%s: fields the SDK does not know: %x", packed.Id, unknown)
		}
		single, err := proto.Marshal(packed)
		if err != nil {
			t.Fatal(err)
		}
		var e event.Event
		if err := format.Protobuf.Unmarshal(single, &e); err != nil {
			t.Fatalf("%s: %v", packed.Id, err)
		}
		if err := e.Validate(); err != nil {
			t.Errorf("%s: %v", packed.Id, err)
		}
		byID[e.ID()] = &e
	}
	if len(byID) != 5 {
		t.Fatalf("%d events, expected 5", len(byID))
	}

	full := byID["full"]
	expect(t, "source", full.Source(), "/plant/7")
	expect(t, "type", full.Type(), "com.example.reading")
	expect(t, "specversion", full.SpecVersion(), "1.0")
	expect(t, "subject", full.Subject(), "oven")
	expect(t, "datacontenttype", full.DataContentType(), "application/json")
	expect(t, "dataschema", full.DataSchema(), "https://example.com/reading.json")
	expect(t, "time", full.Time().UTC(), instant)
	expect(t, "data", string(full.Data()), `{"celsius":21.5}`)
	expect(t, "extensions", full.Extensions(), map[string]interface{}{
		"partitionkey": "oven-7",
		"flag":         true,
		"off":          false,
		"least":        int32(-2147483648),
		"most":         int32(2147483647),
		"zero":         int32(0),
		"text":         "grüß\n",
		"raw":          []byte{0, 255, 128},
		"where":        types.URI{URL: uri(t, "https://a.b/c?d=1#e")},
		"ref":          types.URIRef{URL: uri(t, "../x")},
		"when":         types.Timestamp{Time: instant},
		"before":       types.Timestamp{Time: time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC)},
	})

	least := byID["least"]
	expect(t, "least data", len(least.Data()), 0)
	expect(t, "least extensions", len(least.Extensions()), 0)
	expect(t, "text", string(byID["text"].Data()), "grüß")
	expect(t, "bytes", byID["bytes"].Data(), []byte("\x89PNG\x00\xff"))
	expect(t, "json", string(byID["json"].Data()), `{"a": [1, 2.0]}`)
	expect(t, "json type", byID["json"].DataContentType(), "application/json")
	expect(t, "json n", byID["json"].Extensions()["n"], int32(5))
}

func expect(t *testing.T, what string, got, expected interface{}) {
	t.Helper()
	if !reflect.DeepEqual(got, expected) {
		t.Errorf("%s is %#v, expected %#v", what, got, expected)
	}
}

// One event through the SDK's own encoder, as an element of a batch message.
func encode(t *testing.T, e *event.Event) *pb.CloudEvent {
	t.Helper()
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	packed, err := format.Protobuf.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var message pb.CloudEvent
	if err := proto.Unmarshal(packed, &message); err != nil {
		t.Fatal(err)
	}
	return &message
}

// What the SDK packs, headrace reads.
func TestWeReadTheEventsOfTheSDK(t *testing.T) {
	full := event.New()
	full.SetID("full")
	full.SetSource("/sdk")
	full.SetType("com.example.sdk")
	full.SetSubject("sübject")
	full.SetDataSchema("https://example.com/schema")
	full.SetTime(instant.Add(789 * time.Nanosecond))
	full.SetExtension("partitionkey", "k-1")
	full.SetExtension("flag", true)
	full.SetExtension("off", false)
	full.SetExtension("least", int32(-2147483648))
	full.SetExtension("most", int32(2147483647))
	full.SetExtension("text", "grüß")
	full.SetExtension("raw", []byte{0, 255, 128})
	full.SetExtension("where", uri(t, "https://a.b/c?d=1#e"))
	full.SetExtension("ref", types.URIRef{URL: uri(t, "../x")})
	full.SetExtension("when", time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC))
	if err := full.SetData("application/json", map[string]float64{"celsius": 21.5}); err != nil {
		t.Fatal(err)
	}

	least := event.New()
	least.SetID("least")
	least.SetSource("s")
	least.SetType("t")

	large := event.New()
	large.SetID(strings.Repeat("i", 300))
	large.SetSource("s")
	large.SetType("t")
	large.SetExtension("long", strings.Repeat("v", 20000))
	blob := bytes.Repeat([]byte{0, 1, 2, 255}, 50000)
	if err := large.SetData("application/octet-stream", blob); err != nil {
		t.Fatal(err)
	}

	wrapped, err := anypb.New(&pb.CloudEvent{Id: "x"})
	if err != nil {
		t.Fatal(err)
	}
	text := func(id string, attributes map[string]string, data interface{}) *pb.CloudEvent {
		message := &pb.CloudEvent{Id: id, Source: "s", SpecVersion: "1.0", Type: "t",
			Attributes: map[string]*pb.CloudEventAttributeValue{}}
		for name, value := range attributes {
			message.Attributes[name] = &pb.CloudEventAttributeValue{
				Attr: &pb.CloudEventAttributeValue_CeString{CeString: value}}
		}
		switch d := data.(type) {
		case string:
			message.Data = &pb.CloudEvent_TextData{TextData: d}
		case *anypb.Any:
			message.Data = &pb.CloudEvent_ProtoData{ProtoData: d}
		}
		return message
	}
	events := []*pb.CloudEvent{
		encode(t, &full), encode(t, &least), encode(t, &large),
		text("text", map[string]string{"datacontenttype": "text/plain"}, "grüß"),
		text("proto", nil, wrapped),
	}

	b64 := base64.StdEncoding.EncodeToString
	expectations := [][]string{
		{"id full", "source /sdk", "type com.example.sdk", "subject sübject", "key k-1",
			"attribute datacontenttype string application/json",
			"attribute dataschema uri https://example.com/schema",
			"attribute flag boolean true",
			"attribute least integer -2147483648",
			"attribute most integer 2147483647",
			"attribute off boolean false",
			"attribute partitionkey string k-1",
			"attribute raw bytes AP+A",
			"attribute ref uriref ../x",
			"attribute subject string sübject",
			"attribute text string grüß",
			"attribute time timestamp 2026-03-29T02:30:00.123456Z",
			"attribute when timestamp 1969-12-31T23:59:59.999999Z",
			"attribute where uri https://a.b/c?d=1#e",
			"data yes,json " + b64([]byte(`{"celsius":21.5}`))},
		{"id least", "source s", "type t", "subject ", "key ", "data yes "},
		{"id " + strings.Repeat("i", 300), "source s", "type t", "subject ", "key ",
			"attribute datacontenttype string application/octet-stream",
			"attribute long string " + strings.Repeat("v", 20000),
			"data yes " + b64(blob)},
		{"id text", "source s", "type t", "subject ", "key ",
			"attribute datacontenttype string text/plain", "data yes,text " + b64([]byte("grüß"))},
		{"id proto", "source s", "type t", "subject ", "key ", "data yes " + b64(wrapped.Value)},
	}
	answers := strings.Split(strings.TrimSuffix(string(peer(t, "read", packBatch(t, events))), "\n\n"), "\n\n")
	if len(answers) != len(expectations) {
		t.Fatalf("%d events, expected %d", len(answers), len(expectations))
	}
	for i, answer := range answers {
		lines := strings.Split(answer, "\n")
		json := strings.TrimPrefix(lines[len(lines)-1], "json ")
		lines = lines[:len(lines)-1]
		sort.Strings(lines)
		expected := append([]string{}, expectations[i]...)
		sort.Strings(expected)
		if !reflect.DeepEqual(lines, expected) {
			t.Errorf("event %d is\n%s\nexpected\n%s", i, strings.Join(lines, "\n"),
				strings.Join(expected, "\n"))
		}
		checkJSON(t, json, events[i])
	}
}

// The JSON that headrace prints of an event is an event to the SDK, with the same context.
func checkJSON(t *testing.T, json string, packed *pb.CloudEvent) {
	t.Helper()
	var e event.Event
	if err := e.UnmarshalJSON([]byte(json)); err != nil {
		t.Errorf("%s: %v", packed.Id, err)
		return
	}
	if err := e.Validate(); err != nil {
		t.Errorf("%s: %v", packed.Id, err)
	}
	var data []byte
	switch d := packed.Data.(type) {
	case *pb.CloudEvent_BinaryData:
		data = d.BinaryData
	case *pb.CloudEvent_TextData:
		data = []byte(d.TextData)
	case *pb.CloudEvent_ProtoData:
		data = d.ProtoData.Value
	}
	expect(t, packed.Id+" data of JSON", string(e.Data()), string(data))
	for name, value := range packed.Attributes {
		if number, ok := value.Attr.(*pb.CloudEventAttributeValue_CeInteger); ok {
			expect(t, name, fmt.Sprint(e.Extensions()[name]), fmt.Sprint(number.CeInteger))
		}
	}
}
