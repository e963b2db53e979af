"""SIGTERM and SIGHUP interrupt work at once, or request a cooperative stop."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fourcaster.datasets.stopping import SIGNALS, Stopped, cooperative, handled, requested

pytestmark = pytest.mark.usefixtures("default_signal_handlers")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_once_and_the_handler_is_restored(number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught, handled():
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert caught.value.signal == number
    assert signal.getsignal(number) == before
    assert not requested()


def test_cooperative_code_is_not_interrupted_and_reports_what_is_saved():
    epochs = []
    with pytest.raises(Stopped, match=r"epoch 3 is saved") as caught, handled(), cooperative():
        for epoch in range(10):
            epochs.append(epoch)
            if epoch == 3:
                assert not requested()
                # Twice, as `timeout` does: once to the process, once to its group.
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)
                assert requested()
                raise Stopped("epoch 3 is saved")
    assert epochs == [0, 1, 2, 3]
    assert caught.value.text == "epoch 3 is saved"


def test_an_unhandled_request_raises_at_the_end_of_the_outer_block():
    steps = []
    with pytest.raises(Stopped), handled():
        with cooperative():
            with cooperative():
                os.kill(os.getpid(), signal.SIGTERM)
            steps.append("the inner block ends")
        steps.append("never reached")
    assert steps == ["the inner block ends"]


def test_a_request_does_not_hide_an_error():
    with pytest.raises(ValueError, match="first"), handled(), cooperative():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("first")


def test_an_ignored_signal_stays_ignored_and_other_threads_do_not_change_handlers():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

    seen = []

    def work():
        with handled():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_a_second_signal_terminates_the_process_immediately():
    code = (
        "import time\n"
        "from fourcaster.datasets.stopping import cooperative, handled\n"
        "with handled(), cooperative():\n"
        "    print('ready', flush=True)\n"
        "    while True:\n"
        "        time.sleep(0.05)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM


def test_a_forked_child_is_terminated_by_the_signal_instead_of_raising():
    with handled():
        child = os.fork()
        if child == 0:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os._exit(3)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM
