{{- /* Managed. Refuses values that do not go together, with a sentence. The schema cannot express this. */ -}}

{{- define "service.check" -}}
{{- $values := .Values -}}
{{- with $values.autoscaling -}}
{{- if and .keda.enabled .hpa.enabled -}}
{{- fail "autoscaling.keda.enabled and autoscaling.hpa.enabled are both true: two autoscalers would fight over the workers, choose one" -}}
{{- end -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas (%d) is above autoscaling.maxReplicas (%d)" (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- if and .keda.enabled (gt (int .keda.fallback.replicas) (int .maxReplicas)) -}}
{{- fail (printf "autoscaling.keda.fallback.replicas (%d) is above autoscaling.maxReplicas (%d)" (int .keda.fallback.replicas) (int .maxReplicas)) -}}
{{- end -}}
{{- if and .keda.enabled (eq $values.bus.kind "nats") (not .keda.natsMonitoring) -}}
{{- fail "autoscaling.keda.natsMonitoring is not set: say where KEDA reaches the monitoring of NATS, such as nats-headless.messaging.svc.cluster.local:8222" -}}
{{- end -}}
{{- end -}}
{{- $given := concat (keys $values.env) (keys $values.secretEnv) -}}
{{- if $values.externalSecret.enabled -}}
{{- $given = concat $given (keys $values.externalSecret.env) -}}
{{- if not $values.externalSecret.store.name -}}
{{- fail "externalSecret.store.name is not set: name the store that externalSecret.env is read from" -}}
{{- end -}}
{{- if not (.Capabilities.APIVersions.Has "external-secrets.io/v1") -}}
{{- fail "externalSecret.enabled is true, but this cluster does not know external-secrets.io/v1: install the External Secrets Operator, or take the variables from existing Secrets by secretEnv" -}}
{{- end -}}
{{- if not $values.externalSecret.env -}}
{{- fail "externalSecret.enabled is true and externalSecret.env is empty: list the variables that come from the store" -}}
{{- end -}}
{{- end -}}
{{- with $values.api.route -}}
{{- if and .enabled (not $values.api.enabled) -}}
{{- fail "api.route.enabled is true and api.enabled is false: there is no Service that the route could lead to" -}}
{{- end -}}
{{- if and .enabled (not .gateways) -}}
{{- fail "api.route.gateways is empty: name the Gateway that the route belongs to" -}}
{{- end -}}
{{- if and .enabled (not ($.Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1")) -}}
{{- fail "api.route.enabled is true, but this cluster does not know gateway.networking.k8s.io/v1: install the Gateway API, or lead requests to the Service by extraObjects" -}}
{{- end -}}
{{- end -}}
{{- range $name := uniq $given -}}
{{- $times := 0 -}}
{{- range $given }}{{ if eq . $name }}{{ $times = add1 $times }}{{ end }}{{ end -}}
{{- if gt (int $times) 1 -}}
{{- fail (printf "%s is set more than once: it belongs into one of env, secretEnv and externalSecret.env" $name) -}}
{{- end -}}
{{- end -}}
{{- $owned := dict "CHASSIS_DRAIN_SECONDS" "drainSeconds" "CHASSIS_MIGRATE" "migration.enabled" "CHASSIS_NATS_REPLICAS" "bus.natsReplicas" "CHASSIS_OUTBOX_RELAY" "relay.enabled" "CHASSIS_HTTP_PORT" "nothing: it is 8080" "CHASSIS_API_PORT" "nothing: it is 8000" -}}
{{- range $name := $given -}}
{{- with get $owned $name -}}
{{- fail (printf "%s is set by the chart and follows from %s" $name .) -}}
{{- end -}}
{{- end -}}
{{- if not (has "CHASSIS_BUS_URL" $given) -}}
{{- fail "CHASSIS_BUS_URL is not set: say where the broker is: in env, or in secretEnv or externalSecret.env if the URL has a password" -}}
{{- end -}}
{{- if and (not (has "CHASSIS_INBOX_URL" $given)) (not (and (eq $values.bus.kind "nats") (eq $values.inbox.kind "nats-kv"))) -}}
{{- fail (printf "CHASSIS_INBOX_URL is not set, and inbox.kind is %s: say where the store is: in env, or in secretEnv or externalSecret.env if the URL has a password" $values.inbox.kind) -}}
{{- end -}}
{{- $schemes := dict "rabbitmq" "amqps?" "nats" "nats|tls" "nats-kv" "nats|tls" "redis" "rediss?([+]sentinel)?" "postgres" "postgresql" -}}
{{- range $name, $kind := dict "CHASSIS_BUS_URL" (list "bus.kind" $values.bus.kind) "CHASSIS_INBOX_URL" (list "inbox.kind" $values.inbox.kind) -}}
{{- with get $values.env $name -}}
{{- if not (regexMatch (printf "^(%s)://" (get $schemes (last $kind))) .) -}}
{{- fail (printf "%s begins with %s://, but %s is %s: change one of them" $name (splitList "://" . | first) (first $kind) (last $kind)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $values.pod.initContainers -}}
{{- if and .restartPolicy (semverCompare "<1.29-0" $.Capabilities.KubeVersion.Version) -}}
{{- fail (printf "pod.initContainers: %s has a restartPolicy, which makes it a sidecar; this needs Kubernetes 1.29" .name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.keda.enabled (eq $values.bus.kind "rabbitmq") -}}
{{- with .Values.autoscaling.keda -}}
{{- if and .hostFromEnv (not (has .hostFromEnv $given)) -}}
{{- fail (printf "autoscaling.keda.hostFromEnv names %s, which is not in env, secretEnv or externalSecret.env" .hostFromEnv) -}}
{{- end -}}
{{- if not (or .hostFromEnv .authenticationRef.name) -}}
{{- fail "autoscaling.keda.hostFromEnv and autoscaling.keda.authenticationRef.name are both empty: say in one of them where KEDA gets the broker's URL from" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
