import pytest

from backends.device.cpu_speed import CpuSpeed, cpu_speed, has_throttled

NOTHING = CpuSpeed()


def kernel(folder, **files):
    """A folder as the kernel's ``/sys``, from the files' paths and contents."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def cpu(core, **files):
    return {f"devices/system/cpu/cpu{core}/{path}": f"{content}\n" for path, content in files.items()}


def test_the_fastest_core_and_the_hottest_sensor_count(tmp_path):
    slow, fast = {"scaling_governor": "powersave", "scaling_cur_freq": 600000, "cpuinfo_max_freq": 1400000}, {
        "scaling_governor": "ondemand", "scaling_cur_freq": 1500000, "cpuinfo_max_freq": 1800000}  # fmt: skip
    files = cpu(0, **{f"cpufreq/{name}": value for name, value in slow.items()})
    files |= cpu(10, **{f"cpufreq/{name}": value for name, value in fast.items()})
    files |= {"class/thermal/thermal_zone0/temp": "48312\n", "class/thermal/thermal_zone1/temp": "-274\n"}
    found = cpu_speed(kernel(tmp_path, **files))
    assert found == CpuSpeed(("ondemand", "powersave"), 1500.0, 1800.0, 48.312, None, None)


def test_a_kernel_may_tell_nothing(tmp_path):
    assert cpu_speed(tmp_path) == NOTHING
    assert not has_throttled(NOTHING, NOTHING)
    unreadable = kernel(tmp_path, **{"class/thermal/thermal_zone0/temp": "hot"})
    (unreadable / "class/thermal/thermal_zone1/temp").mkdir(parents=True)
    assert cpu_speed(unreadable) == NOTHING


def test_an_x86_counts_how_often_it_slowed_down(tmp_path):
    def counted(core, package):
        counts = {"thermal_throttle/core_throttle_count": core, "thermal_throttle/package_throttle_count": package}
        return cpu_speed(kernel(tmp_path, **cpu(0, **counts), **cpu(1, **counts)))

    before = counted(3, 4)
    assert before.throttlings == 14
    assert not has_throttled(before, counted(3, 4))
    assert has_throttled(before, counted(3, 5))


@pytest.mark.parametrize(
    ("word", "is_slowed"),
    [("0", False), ("50000", False), ("50005", True), ("1", False), ("4", True), ("8", True)],
)  # the upper half is since the start; 1 is too low a voltage
def test_a_raspberry_pi_says_whether_it_is_slowed(tmp_path, word, is_slowed):
    found = cpu_speed(kernel(tmp_path, **{"devices/platform/soc/soc:firmware/get_throttled": f"{word}\n"}))
    assert found.is_slowed is is_slowed
    assert has_throttled(found, found) is is_slowed
