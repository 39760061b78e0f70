// Print the intent behind each event once: java -cp "$KAFKA_HOME/libs/*" FollowIntents.java BOOTSTRAP TOPIC GROUP

import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

public class FollowIntents {
    public static void main(String[] args) throws Exception {
        var json = new ObjectMapper();
        var seen = new HashMap<String, Set<String>>(); // source topic and partition -> the newest answer ids
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", args[0], "group.id", args[2], "auto.offset.reset", "earliest", "enable.auto.commit", false);
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(args[1]));
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    var label = json.readTree(record.value());
                    var id = label.get("answer_id").asText();
                    var ids = seen.computeIfAbsent(id.substring(0, id.lastIndexOf('-')), place -> newest(100_000));
                    if (ids.add(id) && !label.has("duplicate_of") && !label.path("degraded").asBoolean()) {
                        System.out.println(id + " " + record.key() + " " + label.get("intent").asText());
                    }
                }
                consumer.commitSync();
            }
        }
    }

    static Set<String> newest(int count) {
        return Collections.newSetFromMap(new LinkedHashMap<>() {
            @Override
            protected boolean removeEldestEntry(Map.Entry<String, Boolean> eldest) {
                return size() > count;
            }
        });
    }
}
