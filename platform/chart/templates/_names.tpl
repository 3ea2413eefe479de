{{- /* Names, labels, and what exporters have in common. */ -}}

{{- define "platform.name" -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "platform.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "platform.hasOperator" -}}
{{- if .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" }}true{{ end -}}
{{- end -}}

{{- /* The components that are watched and have an exporter here, each with one container for every server. */ -}}
{{- define "platform.exporters" -}}
{{- $exporters := dict -}}
{{- with .Values.nats }}{{ if and .enabled .exporter.enabled -}}
{{- $args := list -}}
{{- range .exporter.urls }}{{ $args = concat $args (list "--url" .) }}{{ end -}}
{{- $_ := set $exporters "nats" (dict "port" 7777 "containers" (list (dict "args" $args))) -}}
{{- end }}{{ end -}}
{{- with .Values.redis }}{{ if and .enabled .exporter.enabled -}}
{{- $containers := list -}}
{{- range $number, $url := .exporter.urls -}}
{{- $args := list (printf "--redis.addr=%s" $url) "--include-config-metrics" (printf "--web.listen-address=:%d" (add 9121 $number)) -}}
{{- $containers = append $containers (dict "args" $args "secret" $.Values.redis.exporter.secret) -}}
{{- end -}}
{{- $_ := set $exporters "redis" (dict "port" 9121 "containers" $containers) -}}
{{- end }}{{ end -}}
{{- with .Values.postgresql }}{{ if and .enabled .exporter.enabled -}}
{{- $containers := list -}}
{{- range $number, $secret := .exporter.secrets -}}
{{- $args := list "--extend.query-path=/etc/queries/queries.yaml" "--auto-discover-databases" (printf "--web.listen-address=:%d" (add 9187 $number)) -}}
{{- $containers = append $containers (dict "args" $args "secret" $secret "queries" true) -}}
{{- end -}}
{{- $_ := set $exporters "postgresql" (dict "port" 9187 "containers" $containers) -}}
{{- end }}{{ end -}}
{{- toJson $exporters -}}
{{- end -}}
