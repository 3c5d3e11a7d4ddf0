/* SPDX-License-Identifier: Apache-2.0 */
/* Kafka Streams in ./dev bench peers: two threads, at_least_once, a commit a second.
 *
 *   StreamsPeer BROKERS APPLICATION TOPIC PARTITIONS RECORDS_A_PARTITION STATE [OUT]
 *
 * Without OUT a record is only counted; with it, those with temp > 30 go there. When every partition
 * has had its records it prints "FIRST_NS LAST_NS" (CLOCK_MONOTONIC) and goes on until SIGTERM. */
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

public final class StreamsPeer {
    private static final JsonFactory JSON = new JsonFactory();
    private static CountDownLatch left;

    /* What one partition has had; written by the thread that has its task. */
    private static final class Seen {
        long records, wanted, firstNs, lastNs;
    }

    /* Reads the whole record, so that what is no JSON is found, and builds nothing of it. */
    private static boolean isHot(byte[] value) {
        boolean hot = false;
        try (JsonParser parser = JSON.createParser(value)) {
            parser.nextToken();
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                boolean isTemp = parser.currentName().equals("temp");
                parser.nextToken();
                if (isTemp) {
                    hot = parser.getDoubleValue() > 30;
                } else {
                    parser.skipChildren();
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return hot;
    }

    private static final class Handler implements Processor<byte[], byte[], byte[], byte[]> {
        private final Seen[] all;
        private final boolean filters;
        private ProcessorContext<byte[], byte[]> context;
        private Seen seen;

        Handler(Seen[] all, boolean filters) {
            this.all = all;
            this.filters = filters;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            seen = all[context.taskId().partition()];
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            if (seen.records++ == 0) {
                seen.firstNs = System.nanoTime();
            }
            if (filters && isHot(record.value())) {
                context.forward(record);
            }
            if (seen.records == seen.wanted) {
                seen.lastNs = System.nanoTime();
                left.countDown();
            }
        }
    }

    private static Properties settings(String[] args) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[5]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG,
                Serdes.ByteArraySerde.class.getName());
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG,
                Serdes.ByteArraySerde.class.getName());
        return settings;
    }

    public static void main(String[] args) throws InterruptedException {
        int partitions = Integer.parseInt(args[3]);
        boolean filters = args.length == 7;
        Seen[] all = new Seen[partitions];
        left = new CountDownLatch(partitions);
        for (int i = 0; i < partitions; i++) {
            all[i] = new Seen();
            all[i].wanted = Long.parseLong(args[4]);
        }
        StreamsBuilder builder = new StreamsBuilder();
        KStream<byte[], byte[]> records = builder.stream(args[2]);
        KStream<byte[], byte[]> hot = records.process(() -> new Handler(all, filters));
        if (filters) {
            hot.to(args[6]);
        }
        KafkaStreams streams = new KafkaStreams(builder.build(), settings(args));
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        left.await();
        long first = Long.MAX_VALUE, last = 0;
        for (Seen seen : all) {
            first = Math.min(first, seen.firstNs);
            last = Math.max(last, seen.lastNs);
        }
        System.out.println(first + " " + last);
        new CountDownLatch(1).await();
    }

    private StreamsPeer() {}
}
