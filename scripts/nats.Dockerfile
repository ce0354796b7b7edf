# nats-server, built before by `make nats-binary`.
FROM scratch
COPY bin/nats-server /nats-server
EXPOSE 4222
ENTRYPOINT ["/nats-server"]
