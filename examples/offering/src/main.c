/* Start, wait for SIGTERM or SIGINT, stop. Works as process 1 of a container. */
#include "log.h"
#include "routes.h"
#include "settings.h"

#include <ulfius.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    EXIT_FAILED = 1,
    EXIT_BAD_SETTINGS = 2,
    CONNECTION_LIMIT = 256,     /* each has a thread */
    CLIENT_TIMEOUT_SECONDS = 30, /* a client that neither sends nor takes anything is hung up on */
    THREAD_STACK = 512 * 1024,
    BODY_LIMIT = 4096 /* no route takes a body */
};

static bool start_http(struct _u_instance *instance, const struct settings *settings)
{
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)mhd_request_completed, NULL},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)ulfius_uri_logger, NULL},
        {MHD_OPTION_SOCK_ADDR, 0, (void *)(intptr_t)&settings->address},
        {MHD_OPTION_CONNECTION_LIMIT, CONNECTION_LIMIT, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, CLIENT_TIMEOUT_SECONDS, NULL},
        {MHD_OPTION_THREAD_STACK_SIZE, THREAD_STACK, NULL},
        {MHD_OPTION_END, 0, NULL}};
    unsigned int flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC;
    if (settings->address.ss_family == AF_INET6)
        flags |= MHD_USE_DUAL_STACK;
    errno = 0;
    if (ulfius_start_framework_with_mhd_options(instance, flags, options) != U_OK) {
        log_line("cannot listen on %s port %u: %s", settings->bind_text, settings->port,
                 errno != 0 ? strerror(errno) : "the HTTP library does not start");
        return false;
    }
    return true;
}

/* Signals come through a pipe: whichever thread is given one, main wakes, and no thread has to block any. */
static int signal_pipe[2];

static void on_signal(int number)
{
    int before = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t written = write(signal_pipe[1], &byte, 1);
    (void)written; /* a full pipe already holds a signal */
    errno = before;
}

static bool catch_signals(void)
{
    if (pipe(signal_pipe) != 0 || fcntl(signal_pipe[1], F_SETFL, O_NONBLOCK) != 0)
        return false;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    signal(SIGPIPE, SIG_IGN);
    return sigaction(SIGTERM, &action, NULL) == 0 && sigaction(SIGINT, &action, NULL) == 0;
}

static int wait_for_signal(void)
{
    unsigned char number = 0;
    while (read(signal_pipe[0], &number, 1) != 1)
        ;
    return number;
}

static bool serve(struct service *service, const struct settings *settings)
{
    struct _u_instance instance;
    if (ulfius_init_instance(&instance, settings->port, NULL, NULL) != U_OK) {
        log_line("the HTTP library does not initialise");
        return false;
    }
    instance.max_post_body_size = BODY_LIMIT;
    instance.max_post_param_size = BODY_LIMIT;
    bool served = routes_add(&instance, service) && start_http(&instance, settings);
    if (served) {
        log_line("version " OFFERING_VERSION " listens on %s port %u", settings->bind_text, settings->port);
        log_line("%s received, stopping", wait_for_signal() == SIGINT ? "SIGINT" : "SIGTERM");
        atomic_store(&service->stopping, true);
        ulfius_stop_framework(&instance);
        log_line("stopped");
    }
    ulfius_clean_instance(&instance);
    return served;
}

int main(void)
{
    if (!catch_signals()) {
        fprintf(stderr, "offering: signals cannot be caught: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    struct settings settings;
    char problem[512];
    if (!settings_read(&settings, problem, sizeof problem)) {
        fprintf(stderr, "offering: %s\n", problem);
        settings_free(&settings);
        return EXIT_BAD_SETTINGS;
    }
    struct service service = {.stopping = false};
    bool served = false;
    if (database_init(&service.database, &settings)) {
        ulfius_global_init();
        served = serve(&service, &settings);
        ulfius_global_close();
        database_free(&service.database);
    } else {
        log_line("the database library does not initialise");
    }
    settings_free(&settings);
    return served ? 0 : EXIT_FAILED;
}
