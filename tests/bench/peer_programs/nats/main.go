// SPDX-License-Identifier: Apache-2.0

// Publishers of ./dev bench peers: each connection publishes to a JetStream stream and waits for its
// acknowledgement, again and again.
//
//	nats_peer PORT CONNECTIONS SECONDS
//
// Prints "COUNT SECONDS STORED": what was acknowledged, how long it took, what the stream holds.
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		log.Fatalf("nats_peer: %q is no number", text)
	}
	return n
}

func connect(url string) (*nats.Conn, nats.JetStreamContext) {
	connection, err := nats.Connect(url)
	if err != nil {
		log.Fatal("nats_peer: ", err)
	}
	stream, err := connection.JetStream(nats.MaxWait(30 * time.Second))
	if err != nil {
		log.Fatal("nats_peer: ", err)
	}
	return connection, stream
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: nats_peer PORT CONNECTIONS SECONDS")
	}
	url := "nats://127.0.0.1:" + os.Args[1]
	connections, seconds := number(os.Args[2]), number(os.Args[3])
	head := `{"device":"d-1","temp":40.5,"pad":"`
	body := []byte(head + strings.Repeat("x", 300-len(head)-2) + `"}`)

	_, admin := connect(url)
	_, err := admin.AddStream(&nats.StreamConfig{Name: "readings", Subjects: []string{"readings"},
		Storage: nats.FileStorage})
	if err != nil {
		log.Fatal("nats_peer: ", err)
	}
	counts := make([]int, connections)
	streams := make([]nats.JetStreamContext, connections)
	for i := range streams {
		_, streams[i] = connect(url)
	}
	var all sync.WaitGroup
	begin := time.Now()
	end := begin.Add(time.Duration(seconds) * time.Second)
	for i := range streams {
		all.Add(1)
		go func() {
			defer all.Done()
			for time.Now().Before(end) {
				if _, err := streams[i].Publish("readings", body); err != nil {
					log.Fatal("nats_peer: ", err)
				}
				counts[i]++
			}
		}()
	}
	all.Wait()
	took, sum := time.Since(begin), 0
	for _, count := range counts {
		sum += count
	}
	info, err := admin.StreamInfo("readings")
	if err != nil {
		log.Fatal("nats_peer: ", err)
	}
	fmt.Println(sum, took.Seconds(), info.State.Msgs)
}
