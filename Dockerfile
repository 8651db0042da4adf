# MTO-JAX with the tested versions:
#
#   docker build -t mto .                                  # CPU
#   docker build -t mto --build-arg EXTRAS='[cuda]' .      # NVIDIA GPU: docker run --gpus all ...
#   docker run --rm -v "$PWD:/work" mto quickstart
FROM python:3.11-slim
ARG EXTRAS=""
COPY . /opt/mto
RUN pip install --no-cache-dir --constraint /opt/mto/requirements/lock.txt "/opt/mto${EXTRAS}"
WORKDIR /work
ENTRYPOINT ["mto"]
CMD ["--help"]
