{{- /* Managed. The spec of an ExternalSecret: `root`, `target` (name of the Secret that the operator makes). */ -}}

{{- define "service.externalSecretSpec" -}}
{{- with .root.Values.externalSecret -}}
refreshInterval: {{ .refreshInterval }}
secretStoreRef:
  name: {{ .store.name }}
  kind: {{ .store.kind }}
target:
  name: {{ $.target }}
  creationPolicy: Owner
data:
  {{- range $name, $remote := .env }}
  - secretKey: {{ $name }}
    remoteRef: {{- toYaml $remote | nindent 6 }}
  {{- end }}
{{- end }}
{{- end -}}
