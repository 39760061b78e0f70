// Send events, one JSON object a line: java -cp "$KAFKA_HOME/libs/*" SendEvents.java BOOTSTRAP TOPIC < orders.jsonl

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

public class SendEvents {
    public static void main(String[] args) throws Exception {
        var json = new ObjectMapper();
        Map<String, Object> settings = Map.of("bootstrap.servers", args[0]); // acks=all, idempotent and murmur2 are defaults
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            var sent = new ArrayList<Future<?>>();
            for (String line; (line = lines.readLine()) != null; ) {
                sent.add(producer.send(new ProducerRecord<>(args[1], json.readTree(line).get("user").asText(), line)));
            }
            for (var delivery : sent) {
                delivery.get(); // an event that was not delivered ends the program
            }
        }
    }
}
