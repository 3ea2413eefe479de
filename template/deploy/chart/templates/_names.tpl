{{- /* Managed. Names, labels, and questions that several templates ask. */ -}}

{{- /* Name of the release's objects. Leaves room for a suffix below the 63 characters of a label. */ -}}
{{- define "service.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- trunc 52 $name | trimSuffix "-" -}}
{{- end -}}

{{- define "service.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* The selector's labels, and the labels that may change from release to release. */ -}}
{{- define "service.podLabels" -}}
{{ include "service.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | replace "+" "_" | trunc 63 | quote }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "service.labels" -}}
{{ include "service.podLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- /* Differs from the ids of other releases' dashboards in the same Grafana, and has at most 40 characters. */ -}}
{{- define "service.dashboardUid" -}}
{{- printf "%s-%s" (trunc 27 .Chart.Name) (printf "%s/%s" .Release.Namespace (include "service.fullname" .) | sha256sum | trunc 12) -}}
{{- end -}}

{{- define "service.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "service.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "service.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* "true" or nothing. Asks for group and version only: offline, Helm answers no for every kind. */ -}}

{{- define "service.hasRelay" -}}
{{- if and .Values.relay.enabled (eq .Values.inbox.kind "postgres") }}true{{ end -}}
{{- end -}}

{{- define "service.hasMigration" -}}
{{- if and .Values.migration.enabled (eq .Values.inbox.kind "postgres") }}true{{ end -}}
{{- end -}}

{{- define "service.hasExternalSecret" -}}
{{- if .Values.externalSecret.enabled }}true{{ end -}}
{{- end -}}

{{- define "service.scaledByKeda" -}}
{{- if and .Values.autoscaling.keda.enabled (.Capabilities.APIVersions.Has "keda.sh/v1alpha1") }}true{{ end -}}
{{- end -}}

{{- define "service.isAutoscaled" -}}
{{- if or .Values.autoscaling.hpa.enabled (include "service.scaledByKeda" .) }}true{{ end -}}
{{- end -}}
