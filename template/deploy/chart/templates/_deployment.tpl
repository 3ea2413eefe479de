{{- /* Managed. A Deployment: `root`, `component`, `name`, `args`, `resources`, `replicas` (null: an autoscaler decides). */ -}}

{{- define "service.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "service.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  selector:
    matchLabels:
      {{- include "service.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  strategy:
    {{- with .root.Values.updateStrategy }}
    type: {{ .type }}
    {{- if eq .type "RollingUpdate" }}
    rollingUpdate:
      maxSurge: {{ .maxSurge }}
      maxUnavailable: {{ .maxUnavailable }}
    {{- end }}
    {{- end }}
  template:
    metadata:
      labels:
        {{- include "service.podLabels" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
        {{- with .root.Values.pod.labels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/config: {{ include "service.env" .root | sha256sum }}
        {{- with .root.Values.pod.annotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec: {{- include "service.podSpec" (set . "serves" true) | nindent 6 }}
{{- end -}}

{{- /* Bounds the evictions of a component's pods: `root`, `component`, `name`. Broken pods may always be evicted. */ -}}
{{- define "service.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "service.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  maxUnavailable: {{ .root.Values.podDisruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "service.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
{{- end -}}
