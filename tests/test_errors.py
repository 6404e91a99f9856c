import pytest
import torch.utils.data

from ciba_bev.errors import CibaError, error_message, exit_with_message


class DamagedData(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise CibaError('image [x].jpg is truncated.\nFetch it again.')


def test_a_loading_process_loses_only_its_trace():
    loader = torch.utils.data.DataLoader(DamagedData(), num_workers=1)
    with pytest.raises(CibaError, match='Traceback') as caught:
        next(iter(loader))
    assert error_message(caught.value) == 'image [x].jpg is truncated.\nFetch it again.'


def test_a_short_message_and_status_one(capsys, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.delenv('CIBA_TRACEBACK', raising=False)

    def fail():
        raise CibaError('image [x].jpg is truncated.')

    with pytest.raises(SystemExit) as ended:
        exit_with_message(fail)
    assert ended.value.code == 1
    assert capsys.readouterr().err == 'error: image [x].jpg is truncated.\n'
    with pytest.raises(CibaError):
        exit_with_message(fail, show_traceback=True)
    monkeypatch.setenv('CIBA_TRACEBACK', '1')
    with pytest.raises(CibaError):
        exit_with_message(fail)


def test_mistakes_of_the_program_keep_their_trace():
    with pytest.raises(ZeroDivisionError):
        exit_with_message(lambda: 1 // 0)
