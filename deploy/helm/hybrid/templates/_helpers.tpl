{{- define "hybrid.labels" -}}
app.kubernetes.io/name: hybrid
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
