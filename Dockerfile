# Serves a head, or an exported model, that is mounted at /models: see docs/how-to/serve.md.
FROM python:3.13-slim
COPY . /tmp/featstore
RUN pip install --no-cache-dir --constraint /tmp/featstore/constraints.txt "/tmp/featstore[heif,onnx,serve]" \
    && rm -r /tmp/featstore \
    && useradd --create-home --uid 1000 featstore \
    && install --directory --owner featstore /var/cache/featstore
# By number, so that Kubernetes knows that it is not root.
USER 1000
# Networks that OpenVINO has converted: a volume here makes the next start faster.
ENV FEATSTORE_CACHE=/var/cache/featstore
EXPOSE 8501
HEALTHCHECK --start-period=120s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8501/healthz')"]
# It reaches beyond the container only with FEATSTORE_TOKEN set.
ENTRYPOINT ["featstore", "serve", "--host", "0.0.0.0"]
CMD ["/models/model"]
