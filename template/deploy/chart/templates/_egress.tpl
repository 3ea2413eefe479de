{{- /* Managed. What the pods may reach: DNS, broker, store, collector, and what the values add. */ -}}

{{- define "service.egress" -}}
{{- $policy := .Values.networkPolicy -}}
{{- $bus := get (dict "rabbitmq" (list 5672 5671) "nats" (list 4222)) .Values.bus.kind -}}
{{- $inbox := get (dict "nats-kv" (list 4222) "redis" (list 6379) "postgres" (list 5432)) .Values.inbox.kind -}}
{{- $given := merge (dict) .Values.env .Values.secretEnv (ternary .Values.externalSecret.env dict .Values.externalSecret.enabled) -}}
- ports:
    {{- range $policy.dns.ports }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with $policy.dns.to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{ include "service.egressTo" (dict "ports" ($policy.bus.ports | default $bus) "to" $policy.bus.to) }}
{{ include "service.egressTo" (dict "ports" ($policy.inbox.ports | default $inbox) "to" $policy.inbox.to) }}
{{- if hasKey $given "CHASSIS_OTLP_ENDPOINT" }}
{{ include "service.egressTo" $policy.otlp }}
{{- end }}
{{- with $policy.egress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "service.egressTo" -}}
- ports:
    {{- range .ports }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with .to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
