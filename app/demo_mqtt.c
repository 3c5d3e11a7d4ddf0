/* SPDX-License-Identifier: Apache-2.0 */
#include "app/demo_mqtt.h"

#include "core/buffer.h"
#include "core/memory.h"
#include "triggers/demo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY_MS = 5000, STEP_MS = 10, PERIOD_MS = 200, PORT_TRIES = 3, PEER_S = 5 };

struct hr_demo_mqtt {
    pid_t pid;
    int port;
    int stop_fd; /* the publisher ends when it can be read */
    pthread_t thread;
    bool has_thread;
};

/* --- mosquitto --- */

static struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons((uint16_t)port)};
}

static int free_port(void) {
    struct sockaddr_in name = loopback(0);
    socklen_t size = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_found = fd >= 0 && bind(fd, (struct sockaddr *)&name, sizeof name) == 0 &&
                    getsockname(fd, (struct sockaddr *)&name, &size) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return is_found ? ntohs(name.sin_port) : 0;
}

/* A connection to the mosquitto, -1: none. */
static int dial(int port) {
    struct sockaddr_in name = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof name) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Freed with hr_free(); NULL: there is none. */
static char *find_program(const char *given) {
    const char *path = getenv("PATH");
    char *folders = given != NULL
                        ? hr_copy_text("")
                        : hr_format("%s:/usr/sbin:/usr/local/sbin", path == NULL ? "" : path);
    char *found = given != NULL && access(given, X_OK) == 0 ? hr_copy_text(given) : NULL;
    char *rest = folders;
    const char *folder = NULL;
    while (given == NULL && found == NULL && (folder = strsep(&rest, ":")) != NULL) {
        char *file = hr_format("%s/mosquitto", folder);
        if (folder[0] == '/' && access(file, X_OK) == 0) {
            found = file;
        } else {
            hr_free(file);
        }
    }
    hr_free(folders);
    return found;
}

static hr_code write_config(const char *path, const char *dir, int port, hr_error *err) {
    /* As root it would become its own user, who may not write here. */
    const struct passwd *user = getpwuid(geteuid());
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return hr_fail(err, HR_E_IO, errno, "write '%s': %s", path, strerror(errno));
    }
    fprintf(file, "listener %d 127.0.0.1\nallow_anonymous true\npersistence false\n", port);
    fprintf(file, "log_dest file %s/mosquitto.log\n", dir);
    if (user != NULL) {
        fprintf(file, "user %s\n", user->pw_name);
    }
    return fclose(file) == 0
               ? HR_OK
               : hr_fail(err, HR_E_IO, errno, "write '%s': %s", path, strerror(errno));
}

/* In the child: only async-signal-safe calls. */
static void become(char *const *argv, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    setsid(); /* Ctrl-C at the terminal is the demo's to answer */
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2 && null >= 0; fd++) {
        dup2(null, fd);
    }
    execv(argv[0], argv);
    _exit(127);
}

static bool has_ended(hr_demo_mqtt *mqtt) {
    int status = 0;
    bool is_gone = waitpid(mqtt->pid, &status, WNOHANG) == mqtt->pid;
    mqtt->pid = is_gone ? 0 : mqtt->pid;
    return is_gone;
}

static void end_mosquitto(hr_demo_mqtt *mqtt) {
    if (mqtt->pid > 0) {
        kill(mqtt->pid, SIGTERM);
        for (int waited = 0; waited < READY_MS && !has_ended(mqtt); waited += STEP_MS) {
            poll(NULL, 0, STEP_MS);
        }
    }
    if (mqtt->pid > 0) {
        kill(mqtt->pid, SIGKILL);
        waitpid(mqtt->pid, NULL, 0);
        mqtt->pid = 0;
    }
}

static hr_code start_once(hr_demo_mqtt *mqtt, char *program, const char *dir, hr_error *err) {
    mqtt->port = free_port();
    char *path = hr_format("%s/mosquitto.conf", dir);
    char option[] = "-c";
    char *const argv[] = {program, option, path, NULL};
    hr_code code = write_config(path, dir, mqtt->port, err);
    if (code == HR_OK) {
        pid_t parent = getpid();
        mqtt->pid = fork();
        if (mqtt->pid == 0) {
            become(argv, parent);
        }
        code = mqtt->pid < 0 ? hr_fail(err, HR_E_IO, errno, "fork: %s", strerror(errno)) : HR_OK;
    }
    hr_free(path);
    for (int waited = 0; code == HR_OK && waited < READY_MS; waited += STEP_MS) {
        int fd = dial(mqtt->port);
        if (has_ended(mqtt)) {
            code = hr_fail(err, HR_E_IO, 0, "'%s' ended at once", program);
        }
        if (fd >= 0) {
            close(fd);
            return code;
        }
        poll(NULL, 0, STEP_MS);
    }
    end_mosquitto(mqtt);
    return code != HR_OK ? code : hr_fail(err, HR_E_IO, 0, "'%s' takes no connections", program);
}

hr_code hr_demo_mqtt_start(const char *program, const char *dir, hr_demo_mqtt **out_mqtt,
                           hr_error *err) {
    *out_mqtt = NULL;
    char *file = find_program(program);
    if (file == NULL) {
        return hr_fail(err, HR_E_IO, 0,
                       program == NULL ? "mosquitto is not installed" : "there is no '%s'",
                       program);
    }
    hr_demo_mqtt *mqtt = hr_alloc(sizeof *mqtt);
    hr_code code = HR_E_IO;
    for (int i = 0; i < PORT_TRIES && code != HR_OK; i++) { /* somebody may take the port first */
        code = start_once(mqtt, file, dir, err);
    }
    hr_free(file);
    if (code != HR_OK) {
        hr_free(mqtt);
        return code;
    }
    mqtt->stop_fd = eventfd(0, EFD_CLOEXEC);
    HR_ASSERT(mqtt->stop_fd >= 0);
    *out_mqtt = mqtt;
    return HR_OK;
}

int hr_demo_mqtt_port(const hr_demo_mqtt *mqtt) {
    return mqtt->port;
}

/* --- the publisher: as much of MQTT 3.1.1 as it takes --- */

static bool is_stopped(const hr_demo_mqtt *mqtt, int wait_ms) {
    struct pollfd ready = {.fd = mqtt->stop_fd, .events = POLLIN};
    return poll(&ready, 1, wait_ms) > 0;
}

/* Sends a packet and waits for its answer of four bytes, CONNACK or PUBACK. */
static bool exchange(int fd, const hr_buffer *packet) {
    uint8_t answer[4];
    return send(fd, packet->bytes, packet->size, MSG_NOSIGNAL) == (ssize_t)packet->size &&
           recv(fd, answer, sizeof answer, MSG_WAITALL) == (ssize_t)sizeof answer;
}

static bool say_connect(int fd) {
    static const uint8_t bytes[] = {0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, /* clean session */
                                    0,    0,  0, 4, 'd', 'e', 'm', 'o'};
    hr_buffer packet = {.bytes = (uint8_t *)(uintptr_t)bytes, .size = sizeof bytes};
    return exchange(fd, &packet);
}

static bool say_reading(int fd, const hr_thermometer_reading *reading, uint16_t number) {
    hr_buffer packet = {0};
    size_t topic = strlen(reading->subject), data = strlen(reading->data);
    size_t size = 2 + topic + 2 + data;
    HR_ASSERT(size < 128); /* so that the size is one byte */
    const uint8_t head[] = {0x32, (uint8_t)size, 0, (uint8_t)topic};
    const uint8_t id[] = {(uint8_t)(number >> 8), (uint8_t)number};
    hr_buffer_add(&packet, head, sizeof head);
    hr_buffer_add(&packet, reading->subject, topic);
    hr_buffer_add(&packet, id, sizeof id);
    hr_buffer_add(&packet, reading->data, data);
    bool is_acked = exchange(fd, &packet);
    hr_buffer_fini(&packet);
    return is_acked;
}

static void *publish(void *data) {
    hr_demo_mqtt *mqtt = data;
    hr_thermometers thermometers;
    hr_thermometers_init(&thermometers, (uint64_t)getpid() << 32 | (uint32_t)mqtt->port);
    int fd = -1;
    uint16_t number = 0;
    while (!is_stopped(mqtt, PERIOD_MS)) {
        bool is_fresh = fd < 0;
        fd = is_fresh ? dial(mqtt->port) : fd;
        if (fd < 0) {
            continue;
        }
        const struct timeval limit = {.tv_sec = PEER_S};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        hr_thermometer_reading reading;
        hr_thermometers_read(&thermometers, &reading);
        number = number == UINT16_MAX ? 1 : (uint16_t)(number + 1);
        if ((is_fresh && !say_connect(fd)) || !say_reading(fd, &reading, number)) {
            close(fd);
            fd = -1;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return NULL;
}

void hr_demo_mqtt_publish(hr_demo_mqtt *mqtt) {
    sigset_t all, before; /* signals are the loop's */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    mqtt->has_thread = pthread_create(&mqtt->thread, NULL, publish, mqtt) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void hr_demo_mqtt_stop(hr_demo_mqtt *take_mqtt) {
    if (take_mqtt == NULL) {
        return;
    }
    if (take_mqtt->has_thread) {
        uint64_t one = 1;
        HR_ASSERT(write(take_mqtt->stop_fd, &one, sizeof one) == (ssize_t)sizeof one);
        pthread_join(take_mqtt->thread, NULL);
    }
    close(take_mqtt->stop_fd);
    end_mosquitto(take_mqtt);
    hr_free(take_mqtt);
}
