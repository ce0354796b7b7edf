# The image of one static binary, built before by `make docker-binary`.
FROM scratch
COPY bin/lockstep /lockstep
EXPOSE 3000
ENTRYPOINT ["/lockstep"]
CMD ["serve"]
