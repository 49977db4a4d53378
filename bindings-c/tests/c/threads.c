/* Two threads feed one hub, each with connections of its own and one that they share a document with; a third
 * reads figures and edits. Run under ThreadSanitizer. */
#include "check.h"

#define ROUNDS 300

typedef struct feeder {
    fidibus_hub *hub;
    uint8_t client;
    pthread_mutex_t mutex;
    int wakes;
} feeder;

static void woken(void *env) {
    feeder *this = env;
    pthread_mutex_lock(&this->mutex);
    this->wakes++;
    pthread_mutex_unlock(&this->mutex);
}

static void *feed(void *argument) {
    feeder *this = argument;
    fidibus_connection *shared = connect_to(this->hub, "/shared");
    OK(fidibus_connection_set_wake(shared, woken, this, NULL));
    OK(fidibus_connection_receive(shared, STEP1, sizeof STEP1));
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t awareness[] = {1, 7, 1, this->client, (uint8_t)(round % 100 + 1), 3, '{', ' ', '}'};
        fidibus_status status;
        while ((status = fidibus_connection_receive(shared, awareness, sizeof awareness)) ==
               FIDIBUS_STATUS_FULL) {
            drain(shared);
        }
        CHECK(status == FIDIBUS_STATUS_OK);
        drain(shared);
        if (round % 50 == 0) {
            fidibus_connection *own = connect_to(this->hub, this->client == 1 ? "/one" : "/two");
            OK(fidibus_connection_receive(own, STEP1, sizeof STEP1));
            fidibus_buffer frame;
            CHECK(take_frame(own, &frame));
            fidibus_buffer_free(&frame);
            fidibus_connection_free(own);
        }
    }
    fidibus_connection_free(shared);
    return NULL;
}

static void two_threads_feed_one_hub(void) {
    /* Made before the hub's threads are: what the library does to hand it over later, ThreadSanitizer cannot see. */
    feeder one = {NULL, 1, PTHREAD_MUTEX_INITIALIZER, 0};
    feeder two = {NULL, 2, PTHREAD_MUTEX_INITIALIZER, 0};
    fidibus_hub *hub = hub_of(small_config());
    one.hub = hub;
    two.hub = hub;
    pthread_t first, second;
    CHECK(pthread_create(&first, NULL, feed, &one) == 0);
    CHECK(pthread_create(&second, NULL, feed, &two) == 0);
    fidibus_document *document = NULL;
    OK(fidibus_document_open(hub, "shared", &document));
    for (int round = 0; round < 20; round++) {
        fidibus_transaction *transaction = NULL;
        OK(fidibus_transaction_new(&transaction));
        OK(fidibus_transaction_text_insert(transaction, "t", 0, "x"));
        OK(fidibus_transaction_commit(transaction, document, NULL));
        fidibus_transaction_free(transaction);
        fidibus_metrics metrics;
        OK(fidibus_hub_metrics(hub, &metrics, sizeof metrics));
    }
    CHECK(pthread_join(first, NULL) == 0);
    CHECK(pthread_join(second, NULL) == 0);
    fidibus_buffer text;
    OK(fidibus_document_text(document, "t", &text));
    CHECK(took_text(&text, "xxxxxxxxxxxxxxxxxxxx"));
    fidibus_document_free(document);
    fidibus_hub_free(hub);
}

static void *free_it(void *hub) {
    fidibus_hub_free(hub);
    return NULL;
}

/* A hub that one thread ends while another still feeds it: the connection says so. */
static void ending_while_feeding(void) {
    fidibus_hub *hub = hub_of(small_config());
    fidibus_connection *a = connect_to(hub, "/a");
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_it, hub) == 0);
    fidibus_status status = FIDIBUS_STATUS_OK;
    for (int tries = 0; tries < 100000 && status != FIDIBUS_STATUS_CLOSED; tries++) {
        status = fidibus_connection_receive(a, STEP1, sizeof STEP1);
        drain(a);
    }
    CHECK(status == FIDIBUS_STATUS_CLOSED);
    CHECK(pthread_join(thread, NULL) == 0);
    fidibus_connection_free(a);
}

int main(void) {
    RUN(two_threads_feed_one_hub);
    RUN(ending_while_feeding);
    return 0;
}
